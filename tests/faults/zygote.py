"""Forks trainer processes from one that has imported TensorFlow already.

A fault test starts dozens of processes, and the import alone would take five seconds of each.
Nor do they collect what was imported, or convert the functions that each of them traces, which
would be half of what is left. The children are processes of their own: they run the command line's
`main`, and are killed by pid. Commands are JSON lines on standard input, answers JSON lines on
standard output.
"""

import gc
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.faults.inject import open_faulty
from tests.faults.surroundings import private_hosts
from trainer.cli import main as trainer_main
from trainer.cli.start import Surroundings
from trainer.environment import CHANNEL_VARIABLE
from trainer.storage import gcs


def _child(request: dict[str, Any]) -> None:
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if "errors" in request:
        os.dup2(os.open(request["errors"], os.O_WRONLY | os.O_CREAT, 0o600), 2)
    os.setsid()
    os.environ.update(request["env"])
    sys.path[:0] = filter(None, [request["env"].get("FAULT_PATH")])
    os.chdir(request["cwd"])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request.get("hosts"):
        private_hosts(request["hosts"])
    if request.get("uid"):
        os.setuid(request["uid"])
    _command(request["argv"])


def _command(argv: Sequence[str]) -> None:
    surroundings = Surroundings(open_faulty, _fork_worker, _fork_agent)
    trainer_main(argv, prog_name="trainer", obj=surroundings)


def _fork_agent(argv: Sequence[str], environ: Mapping[str, str], output: Path) -> int:
    """An agent of `trainer chaos`, for the sake of its workers."""
    return _fork({"argv": argv, "env": environ, "output": str(output), "cwd": str(Path.cwd())})


def _fork(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        _child(request)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(99)


def _fork_worker(
    argv: Sequence[str], channel: int, output: tuple[int, int], environ: Mapping[str, str]
) -> int:
    """An agent's worker: forked from it, since it has imported all that a worker needs."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        gcs._client.cache_clear()  # the agent's connections are not for two
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        for number, descriptor in zip((1, 2), output, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.environ.update({**environ, CHANNEL_VARIABLE: str(os.dup(channel))})
        _command(argv)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(99)


def _wait(pid: int, seconds: float) -> dict[str, Any]:
    """The exit code, none at the deadline, and the processors' seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status, used = os.wait4(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return {"code": code, "cpu_seconds": used.ru_utime + used.ru_stime}
        time.sleep(0.005)
    return {"code": None, "cpu_seconds": 0.0}


def _import() -> None:
    """All that a child uses. None of it may start a thread, which no child would have."""
    import trainer.launch
    import trainer.storage.gcs
    import trainer.worker

    assert trainer.launch.launch
    assert trainer.worker.train
    assert trainer.storage.gcs.GCSStorage


def _convert() -> None:
    """What AutoGraph makes of the functions that most children trace."""
    import tensorflow as tf
    from tensorflow.python.autograph.core.converter import STANDARD_OPTIONS, ProgramContext
    from tensorflow.python.autograph.impl.api import _TRANSPILER

    from tests.faults import recipe
    from trainer.data.source import Decoder

    tf.autograph.to_graph(Decoder._decode)
    for function in (Decoder._decode, recipe._decode):
        _TRANSPILER.transform(function, ProgramContext(STANDARD_OPTIONS))


def main() -> None:
    """Serve until standard input ends."""
    _import()
    _convert()
    gc.freeze()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = _wait(request["wait"], request["seconds"])
            print(json.dumps(answer | {"number": request["number"]}), flush=True)
            continue
        pid = _fork(request)
        print(json.dumps({"pid": pid, "number": request["number"]}), flush=True)


if __name__ == "__main__":
    main()
