"""Keras' TensorBoard callback, whose files lie in the run's folder, wherever that is."""

import tempfile
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from trainer.callbacks.run_info import RunInfo
from trainer.errors import ConfigError, StorageError
from trainer.log import get_log
from trainer.run.run_dir import BOARD
from trainer.storage import Storage, is_remote

MOST_BYTES = 512 << 20


class TensorBoard(keras.callbacks.TensorBoard):
    """As Keras' own, and with its arguments; without `log_dir` it writes into the run's folder.

    In a bucket, files are copied there with each checkpoint, by the thread that saves: what is
    written between the last one and a kill is made again. The graph is also that of a model with
    a `train_step` of its own. A copy that fails is a warning, and training goes on.
    """

    chief_only = True
    reads_logs_only = True

    def __init__(self, log_dir: str | None = None, **arguments: Any) -> None:
        super().__init__(log_dir or BOARD, **arguments)
        self.log_dir: str
        self.is_in_run = log_dir is None
        self._copies: _Copies | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def set_run(self, run: RunInfo) -> None:
        """Learn where the run lies. ConfigError for a `log_dir` that cannot be made."""
        if not run.writes:
            return
        if not self.is_in_run:
            try:
                tf.io.gfile.makedirs(self.log_dir)
            except tf.errors.OpError as error:
                raise ConfigError(
                    f"callback tensorboard: log_dir {self.log_dir!r} cannot be made "
                    f"({error.message}): leave it out, and its files lie in the run's folder"
                ) from error
        elif is_remote(run.storage.url):
            self._folder = tempfile.TemporaryDirectory(prefix="trainer-tensorboard-")
            self.log_dir = self._folder.name
            self._copies = _Copies(Path(self.log_dir), run.storage)
        else:
            self.log_dir = str(Path(run.storage.url, BOARD))

    def on_test_end(self, logs: Any = None) -> None:
        """Keras would leave these out where `update_freq` leaves out the last batch."""
        with tf.summary.record_if(True):
            super().on_test_end(logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """The same of an epoch's scalars and histograms."""
        with tf.summary.record_if(True):
            super().on_epoch_end(epoch, logs)

    def on_saved(self) -> None:
        """A checkpoint was committed; called by the saving thread."""
        for writer in tuple(self._writers.values()):
            writer.flush()
        if self._copies is not None:
            self._copies.make()

    def get_state(self) -> dict[str, Any]:
        """Steps and batches so far, by which events are numbered."""
        return {name: getattr(self, name) for name in _COUNTERS if hasattr(self, name)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Count on."""
        for name in _COUNTERS & state.keys():
            setattr(self, name, state[name])

    def _write_keras_model_summary(self) -> None:
        # Keras' own looks at the class alone, and leaves its subclasses out.
        try:
            described = self.model.to_json() if "layers" in self.model.get_config() else None
        except Exception:
            described = None
        if described is not None:
            about = tf.compat.v1.SummaryMetadata()
            about.plugin_data.plugin_name = "graph_keras_model"
            about.plugin_data.content = b"1"
            with self._train_writer.as_default():
                tf.summary.write("keras", tf.constant(described), step=0, metadata=about)


_COUNTERS = {"_global_train_batch", "_global_test_batch"}


class _Copies:
    """Of the files of a folder, each made again when it has grown."""

    def __init__(self, folder: Path, to: Storage) -> None:
        self._folder = folder
        self._to = to
        self._sizes: dict[str, int] = {}
        self._is_told = False

    def make(self) -> None:
        """Copy what is new; that it cannot be done is told once, and tried with the next save."""
        try:
            for file in sorted(self._folder.rglob("*")):
                path = f"{BOARD}/{file.relative_to(self._folder).as_posix()}"
                if file.is_file() and (size := file.stat().st_size) != self._sizes.get(path):
                    if size > MOST_BYTES:
                        raise StorageError(f"{path} has {size} bytes, of at most {MOST_BYTES}")
                    self._to.write(path, file.read_bytes())
                    self._sizes[path] = size
        except (StorageError, OSError) as error:
            if not self._is_told:
                get_log().warning("events for TensorBoard not copied", reason=str(error))
            self._is_told = True
