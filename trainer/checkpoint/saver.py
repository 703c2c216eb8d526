"""Saves in the background: the training thread copies the state and goes on.

One save is in flight at a time. A storage error is no reason to stop training: it is logged,
counted, and the next save tries again. Anything else is a fault of ours and is raised on the
training thread.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.checkpoint.format import Arrays, Manifest
from trainer.checkpoint.policy import Kept, superseded
from trainer.checkpoint.store import CheckpointStore, Found
from trainer.config import CheckpointConfig
from trainer.errors import NonFiniteError, StorageError
from trainer.metrics import Metrics

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Save:
    """What one checkpoint consists of; the arrays belong to the saver until it is done."""

    step: int
    arrays: Arrays
    state: dict[str, Any]
    metrics: dict[str, float]


class Saver:
    """Writes checkpoints on a thread of its own, or on the caller's (`background` false)."""

    def __init__(
        self,
        store: CheckpointStore,
        config: CheckpointConfig,
        metrics: Metrics,
        *,
        damaged: Sequence[Found] = (),
        kept_steps: Set[int] = frozenset(),
        on_saved: Callable[[Manifest, float], None] = lambda _manifest, _seconds: None,
        before_deleting: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._config = config
        self._metrics = metrics
        # Found so at the restore: they keep nothing else from being kept, and go after a save.
        self._damaged = {(found.fence, found.step) for found in damaged}
        self._kept_steps = kept_steps
        self._on_saved = on_saved
        self._before_deleting = before_deleting
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._scores: dict[tuple[int, int], dict[str, float]] = {}
        self.last_error: StorageError | None = None

    def save(self, save: Save) -> None:
        """Begin one save; the one before must have been waited for."""
        self._thread = threading.Thread(target=self._run, args=(save,), name="saver", daemon=True)
        self._thread.start()
        if not self._config.background:
            self.wait()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the save in flight, at most `timeout` seconds; False if it still runs.

        Raises what the saving thread met, unless it was a storage error.
        """
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                return False
            self._thread = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return True

    def _run(self, save: Save) -> None:
        started = time.monotonic()
        try:
            _check_finite(save)
            manifest = self._store.save(
                save.step, save.arrays, state=save.state, metrics=save.metrics
            )
            self._count(manifest, time.monotonic() - started)
            self._damaged.discard((manifest.fence, manifest.step))
            self._clean_up()
        except StorageError as error:
            self.last_error = error
            self._metrics.checkpoint_saves["failure"].inc()
            _log.error("checkpoint of step %d was not saved: %s", save.step, error)
        except BaseException as error:  # raised again by wait()
            self._failure = error

    def _count(self, manifest: Manifest, seconds: float) -> None:
        self.last_error = None
        self._scores[(manifest.fence, manifest.step)] = manifest.metrics
        self._metrics.checkpoint_saves["success"].inc()
        self._metrics.checkpoint_save_duration_seconds.observe(seconds)
        self._metrics.checkpoint_written_bytes.inc(manifest.num_bytes)
        self._metrics.checkpoint_last_success_step.set(manifest.step)
        self._metrics.checkpoint_last_success_timestamp_seconds.set(manifest.created)
        self._on_saved(manifest, seconds)

    def _clean_up(self) -> None:
        """Apply retention; a failure here leaves more checkpoints than asked for, no fewer."""
        try:
            self._before_deleting()
            # What a later holder saved is that one's matter.
            own = [found for found in self._store.all() if found.fence <= self._store.fence]
            committed = [found for found in own if found.committed]
            sound = [f for f in committed if (f.fence, f.step) not in self._damaged]
            kept = [Kept(found.step, found.fence, self._score(found)) for found in sound]
            for old in superseded(kept, self._config, self._kept_steps):
                self._store.delete(old.step, old.fence)
            for fence, step in sorted(self._damaged):
                self._store.delete(step, fence)
            self._damaged.clear()
            self._store.delete_orphans()
        except StorageError as error:
            _log.warning("old checkpoints were not removed: %s", error)

    def _score(self, found: Found) -> dict[str, float]:
        key = (found.fence, found.step)
        if self._config.best is None:
            return {}
        if key not in self._scores:
            self._scores[key] = self._store.metrics(found.name)
        return self._scores[key]


class Bystander:
    """In place of a `Saver`, where another worker saves."""

    last_error: StorageError | None = None

    def save(self, save: Save) -> None:
        """The chief does."""

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002
        """Nothing is in flight here."""
        return True


def _check_finite(save: Save) -> None:
    """NonFiniteError when a weight is NaN or infinite: such a state is never committed."""
    for name, array in save.arrays.items():
        # "V": numpy's kind of bfloat16.
        if name.startswith("model/") and array.dtype.kind in "fV":
            # The sum is non-finite if any element is, or on overflow: only then look closer.
            with np.errstate(all="ignore"):
                total = float(array.sum(dtype=np.float64))
            if not math.isfinite(total) and not np.isfinite(array).all():
                raise NonFiniteError(
                    f"weights in {name} are NaN or infinite at step {save.step}: nothing was "
                    "saved; lower the learning rate and start again from the checkpoint before"
                )
