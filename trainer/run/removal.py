"""Deleting a run."""

from functools import partial

from trainer.agent.restarts import RESTARTS_FILE
from trainer.checkpoint.holder import this_holder
from trainer.checkpoint.lease import CLOCK_FILE, LEASE_FILE, Timing, acquire, live_holder
from trainer.checkpoint.names import CHECKPOINTS, SUMMARY_FILE
from trainer.errors import RunHeldError
from trainer.run.curve_store import CURVES
from trainer.run.events import EVENTS
from trainer.run.ledger import GOODPUT
from trainer.run.logs import LOGS
from trainer.run.run_dir import BOARD, CONFIG_FILE, MODEL, PICTURES, PROFILES, RUN_FILE, RunDir
from trainer.storage.access import PROBES
from trainer.storage.parallel import in_parallel

_FOLDERS = (BOARD, CHECKPOINTS, CURVES, EVENTS, GOODPUT, LOGS, MODEL, PICTURES)


def delete_run(run: RunDir) -> tuple[int, list[str]]:
    """Delete all that a run writes; returns how many objects, and the paths that were left.

    Markers of checkpoints go first, so that what an interruption leaves is none; the lease, which
    is held meanwhile, goes last. Raises RunHeldError, and StorageError half-way: try again.
    """
    me = this_holder()
    if (holder := live_holder(run.storage, me)) is not None:
        raise RunHeldError(f"run {run.url} is held by {holder}: stop it first")
    timing = Timing()
    with acquire(run.storage, me, timing).kept(timing):
        paths = [entry.path for entry in run.storage.list()]
        files = {CONFIG_FILE, RUN_FILE, SUMMARY_FILE, RESTARTS_FILE, CLOCK_FILE}
        doomed = [
            path
            for path in paths
            if path in files
            or path.split("/")[0] in _FOLDERS
            or path.startswith((f"{PROFILES}/", PROBES))  # probes: of a start that was killed
        ]
        for is_marker in (True, False):
            chosen = [path for path in doomed if path.endswith("/COMMIT") == is_marker]
            in_parallel([partial(run.storage.delete, path) for path in chosen])
        run.storage.remove_temporaries(older_than_seconds=0)
    run.storage.delete(LEASE_FILE)
    return len(doomed) + 1, [path for path in paths if path not in {*doomed, LEASE_FILE}]
