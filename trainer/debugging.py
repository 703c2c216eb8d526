"""A run's training in this process, from one of its checkpoints on, to look at: nothing is changed.

Everything happens as in a worker of the run, saving too, but what is written lies in another
folder: see `trainer.storage.overlay`. Nobody holds the run for it, and callbacks that write
elsewhere are left out. Imports no TensorFlow until all that can be refused has been.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from trainer.agreement import Agreement
from trainer.backend import check_backend
from trainer.checkpoint.restore import Restored
from trainer.config import RunConfig, apply_overrides, validate
from trainer.config.credentials import check_tree
from trainer.config.models.run import SCRIPT
from trainer.errors import ConfigError, StoppedError
from trainer.log import configure_logging, get_log, is_for_machines
from trainer.metrics import Metrics
from trainer.preflight import check_data
from trainer.recipes.catalog import with_recipe
from trainer.run.run_dir import CONFIG_FILE, RunDir
from trainer.stop import StopRequest
from trainer.storage import Storage, is_remote, open_storage
from trainer.storage.overlay import overlaid
from trainer.stores import DEADLINE_SECONDS
from trainer.tensorflow_start import importing_tensorflow

# One step a call, so that each can be looked at and be the last; no page that the run may have.
_DEFAULTS = ("train.steps_per_call=1", "metrics.enabled=false", "log.format=auto")


@dataclass(frozen=True)
class Debugging:
    """What to look at, as the command line gives it.

    step: of the checkpoint to go on from, 0 for the run's beginning; by default the newest.
    num_steps: so many are trained; by default all that the run has left.
    keep: a folder for what is written, which otherwise lies in a temporary one.
    """

    run_dir: str
    step: int | None = None
    num_steps: int | None = None
    overrides: Sequence[str] = ()
    allow_change: Sequence[str] = ()
    is_eager: bool = False
    keep: str | None = None


@dataclass(frozen=True)
class DebuggedRun(RunDir):
    """A run as its training finds it here: the checkpoint to go on from was chosen before."""

    restored: Restored = field(default_factory=lambda: Restored(None, (), ()))

    def restore(self, *, start_over: bool = False, agreement: Agreement | None = None) -> Restored:  # noqa: ARG002
        """The chosen one."""
        return self.restored


def debug(
    wanted: Debugging, stop: StopRequest, *, on_start: Callable[[], object] = lambda: None,
    open_storage: Callable[..., Storage] = open_storage,
) -> str:  # fmt: skip
    """Train as the run would have; returns why it ended, where no error did.

    on_start: called when the run is there and may be gone on with.

    As one worker, also in a pod of several: what the environment says of them is not looked at.
    Raises what the run's own worker would raise, but no StoppedError.
    """
    with _folder(wanted.keep) as folder:
        opened = partial(open_storage, deadline_seconds=DEADLINE_SECONDS)
        url = wanted.run_dir.rstrip("/")
        run = RunDir(url, overlaid(opened, url, folder), writes=False)
        config, recipe, params = with_recipe(_config(run, wanted), source=f"run {url}")
        check_backend(config, num_workers=1)
        configure_logging(as_json=is_for_machines(config.log))
        data_hash = check_data(config, open=opened).content_hash
        run.check(config, type(params), data_hash, wanted.allow_change)
        restored, log = _restored(run, wanted.step), get_log()
        start = restored.checkpoint.manifest.step if restored.checkpoint else 0
        log.info("debug", run=url, step=start, writes_to=str(folder))
        _tell_of_workers(restored, log)
        on_start()
        run = DebuggedRun(url, run.open, writes=False, restored=restored)
        limit = _Limit(stop, None if wanted.num_steps is None else start + wanted.num_steps)
        log.info("starting TensorFlow")  # for seconds, nothing else would be said
        with importing_tensorflow():
            from trainer.backends import this_backend
            from trainer.job import Job
            from trainer.worker import train

        if wanted.is_eager:
            this_backend().run_eagerly()
        metrics = Metrics(CollectorRegistry())
        job = Job(config, recipe, params, run, metrics, log, stop, environ={}, on_progress=limit)
        try:
            summary = train(job)
        except StoppedError as stopped:
            return str(stopped)
        return f"the run would be complete at step {summary['steps']}"


@contextmanager
def _folder(keep: str | None) -> Iterator[Path]:
    if keep is not None:
        folder = Path(keep).absolute()
        if is_remote(keep) or (folder.exists() and any(folder.iterdir())):
            raise ConfigError(f"--keep {keep} is no new folder of this machine: name one")
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="trainer-debug-") as temporary:
        yield Path(temporary)


def _config(run: RunDir, wanted: Debugging) -> RunConfig:
    """The run's own, with what is set here."""
    config = run.config()
    if config.recipe == SCRIPT:
        raise ConfigError(
            f"{run.url} is of a script, whose model only the script makes: copy the folder, "
            "and run the script on the copy, by `trainer worker --set run.dir=COPY SCRIPT`"
        )
    tree = config.model_dump(mode="json")
    tree["run"]["dir"] = run.url  # it may have been moved, or copied here
    source = f"{CONFIG_FILE} of {run.url} with --set"
    tree = apply_overrides(tree, [*_DEFAULTS, *wanted.overrides])
    check_tree(tree, source)
    return validate(RunConfig, tree, source=source)


def _restored(run: RunDir, step: int | None) -> Restored:
    """The checkpoint to go on from, read and verified."""
    if step is None:
        return run.restore()
    is_there = any(found.step == step for found in run.checkpoints.all() if found.committed)
    checkpoint = run.checkpoint(str(step)) if step or is_there else None
    return Restored(checkpoint, (), ())


def _tell_of_workers(restored: Restored, log: Any) -> None:
    """Noise, as dropout's, belongs to a replica, and each had other records."""
    state = restored.checkpoint.manifest.state if restored.checkpoint else {}
    workers = state.get("world_sizes", [[0, 1]])[-1][1]
    if workers > 1:
        log.warning(
            "the run had several workers", workers=workers,
            here="one computes the same batches, with other noise and other rounding",
        )  # fmt: skip


class _Limit:
    """Told of each step that is done; ends training after the last one wanted, or a signal."""

    def __init__(self, stop: StopRequest, last: int | None) -> None:
        self._stop, self._last = stop, last

    def __call__(self, step: int | None = None) -> None:
        if step is None:
            return
        # Here, before the run itself would see it, and save.
        if self._stop.is_set:
            raise StoppedError(f"stopped at step {step}; nothing was saved")
        if self._last is not None and step >= self._last:
            raise StoppedError(f"step {step} was the last one that was wanted: nothing failed")
