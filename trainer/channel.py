"""What an agent and its worker tell each other: JSON lines over a socket pair.

A message is an object with a `kind`. A question also has an `id`, and its answer has the same
`id` and the kind `answer`, with an `error` where there is no good one. This module holds the
form of messages and the worker's end; the agent's is `trainer.agent.life`.
"""

import ctypes
import itertools
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from trainer import errors
from trainer.environment import CHANNEL_VARIABLE
from trainer.errors import TrainerError

MAX_MESSAGE_BYTES = 4 << 20
_AGENT_IS_GONE = 1
_PR_SET_PDEATHSIG = 1

Message = dict[str, Any]


def encode(message: Message) -> bytes:
    """One line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The message of one line."""
    message: Message = json.loads(line)
    return message


def describe_error(error: TrainerError) -> Message:
    """An error as part of an answer."""
    return {"type": type(error).__name__, "message": str(error)}


def error_of(described: Message) -> TrainerError:
    """The error that `describe_error` was given."""
    kind = getattr(errors, described["type"], TrainerError)
    error: TrainerError = kind(described["message"])
    return error


class Channel:
    """The worker's end; safe to share between threads.

    When the agent is gone, the process ends at once: nobody would hold the run's lease for it.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._sending = threading.Lock()
        self._numbers = itertools.count()
        self._open: dict[int, Future[Message]] = {}
        self._told_to_go: Future[dict[str, str]] = Future()
        self.lost: TrainerError | None = None
        threading.Thread(target=self._receive, name="agent", daemon=True).start()

    def tell(self, kind: str, **fields: Any) -> None:
        """Send a message that has no answer."""
        self._send({"kind": kind, **fields})

    def ask(self, kind: str, **fields: Any) -> Message:
        """Send a question and wait for the answer, or raise the error that it is.

        The agent bounds what it does for an answer, and this process ends with the agent.
        """
        number = next(self._numbers)
        answer = self._open[number] = Future()
        self._send({"kind": kind, "id": number, **fields})
        found = answer.result()
        if "error" in found:
            raise error_of(found["error"])
        return found

    def wait_to_go(self) -> dict[str, str]:
        """Variables to go on with, once this process is needed."""
        return self._told_to_go.result()

    def _send(self, message: Message) -> None:
        # An agent that is gone is noticed by the receiving thread.
        with self._sending, suppress(OSError):
            self._end.sendall(encode(message))

    def _receive(self) -> None:
        with suppress(OSError), self._end.makefile("rb") as lines:
            for line in lines:
                message = decode(line)
                if message["kind"] == "go":
                    self._told_to_go.set_result(message["environ"])
                elif message["kind"] == "lost":
                    self.lost = error_of(message["error"])
                else:
                    self._open.pop(message["id"]).set_result(message)
        os._exit(_AGENT_IS_GONE)


def open_channel(environ: Mapping[str, str] = os.environ) -> Channel | None:
    """The channel to the agent that started this process; None without one."""
    number = environ.get(CHANNEL_VARIABLE)
    if number is None:
        return None
    if sys.platform == "linux":
        # Also while native code holds the interpreter's lock, so that no thread here can act.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return Channel(socket.socket(fileno=int(number)))
