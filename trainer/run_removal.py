"""Deleting a run."""

from trainer.checkpoint.holder import this_holder
from trainer.checkpoint.lease import CLOCK_FILE, LEASE_FILE, Timing, acquire, live_holder
from trainer.errors import RunHeldError
from trainer.run_dir import CHECKPOINTS, CONFIG_FILE, MODEL, RUN_FILE, SUMMARY_FILE, RunDir
from trainer.storage.access import PROBES


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
        files = {CONFIG_FILE, RUN_FILE, SUMMARY_FILE, CLOCK_FILE}
        doomed = [
            path
            for path in paths
            if path in files
            or path.split("/")[0] in (CHECKPOINTS, MODEL)
            or path.startswith(PROBES)  # of a start that was killed
        ]
        for path in sorted(doomed, key=lambda path: not path.endswith("/COMMIT")):
            run.storage.delete(path)
        run.storage.remove_temporaries(older_than_seconds=0)
    run.storage.delete(LEASE_FILE)
    return len(doomed) + 1, [path for path in paths if path not in {*doomed, LEASE_FILE}]
