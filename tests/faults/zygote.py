"""Forks trainer processes from one that has imported TensorFlow already.

A fault test starts dozens of processes, and the import alone would take five seconds of each.
The children are processes of their own: they run the command line's `main`, and are killed by
pid. Commands are JSON lines on standard input, answers JSON lines on standard output.
"""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.environment import CHANNEL_VARIABLE


def _child(request: dict[str, Any]) -> None:
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.setsid()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request.get("uid"):
        os.setuid(request["uid"])
    _command(request["argv"])


def _command(argv: Sequence[str]) -> None:
    from tests.faults.inject import open_faulty
    from trainer.cli import main
    from trainer.cli.train import Surroundings

    main(argv, prog_name="trainer", obj=Surroundings(open_faulty, _fork_worker))


def _fork_worker(argv: Sequence[str], channel: int, environ: Mapping[str, str]) -> int:
    """An agent's worker: forked from it, since it has imported all that a worker needs."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.environ.update({**environ, CHANNEL_VARIABLE: str(os.dup(channel))})
        _command(argv)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(99)


def _wait(pid: int, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def main() -> None:
    """Serve until standard input ends."""
    import tensorflow_datasets

    import trainer.storage.gcs
    import trainer.worker

    assert trainer.worker.train
    assert trainer.storage.gcs.GCSStorage
    assert tensorflow_datasets.features.FeaturesDict
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = {"code": _wait(request["wait"], request["seconds"])}
            print(json.dumps(answer | {"number": request["number"]}), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            try:
                _child(request)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(99)
        print(json.dumps({"pid": pid, "number": request["number"]}), flush=True)


if __name__ == "__main__":
    main()
