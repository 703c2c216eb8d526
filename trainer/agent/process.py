"""One worker process: started with a channel to its agent, signalled and waited for by pid."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from trainer.agent.output import Output
from trainer.channel import encode
from trainer.environment import CHANNEL_VARIABLE, LAST_WORDS_VARIABLE, SECRET_VARIABLE

# Starts a worker that has the first file descriptor as its channel, the others as standard output
# and error, and these variables beside the agent's; returns its pid.
Spawn = Callable[[Sequence[str], int, tuple[int, int], Mapping[str, str]], int]
_OF_AGENTS = (SECRET_VARIABLE, LAST_WORDS_VARIABLE)


class WorkerProcess:
    """A child; `ended` is done with its exit code (negative: a signal's number) at its end.

    What it prints, the agent prints; `output` has the end of it.
    """

    def __init__(self, spawn: Spawn, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        self.channel, theirs = socket.socketpair()
        self.output = Output()
        with theirs:
            self.pid = spawn(arguments, theirs.fileno(), self.output.theirs, environ)
        self.output.attached()
        self.ended: Future[int] = Future()
        threading.Thread(target=self._wait, name="worker", daemon=True).start()

    def signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if not self.ended.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)

    def go(self, environ: Mapping[str, str]) -> None:
        """Let one that was started to wait begin, with these variables."""
        with suppress(OSError):  # it has ended: whoever waits for that finds out
            self.channel.sendall(encode({"kind": "go", "environ": dict(environ)}))

    def _wait(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        self.output.drain()
        self.ended.set_result(os.waitstatus_to_exitcode(status))


def spawn_worker(
    arguments: Sequence[str], channel: int, output: tuple[int, int], environ: Mapping[str, str]
) -> int:
    """Start `trainer worker` as this command was started; the `Spawn` of real life."""
    inherited = {n: value for n, value in os.environ.items() if not n.startswith(_OF_AGENTS)}
    process = subprocess.Popen(
        [*this_command(), *arguments],
        env={**inherited, **environ, CHANNEL_VARIABLE: str(channel)},
        stdout=output[0],
        stderr=output[1],
        pass_fds=[channel],
        # Ctrl-C is for the agent, which tells the worker once.
        start_new_session=True,
    )
    # Waited for by pid: the object would warn when it goes before the process does.
    process.returncode = 0
    return process.pid


def with_options(arguments: Sequence[str], options: Sequence[str]) -> list[str]:
    """A command's arguments and more options, which end where those of a script begin."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [*arguments[:end], *options, *arguments[end:]]


def this_command() -> list[str]:
    """`trainer`, as it was called."""
    script = Path(sys.argv[0])
    return [sys.executable, *([str(script)] if script.name == "trainer" else ["-m", "trainer"])]
