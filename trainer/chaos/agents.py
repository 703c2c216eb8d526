"""The agents of a run on this machine, started again as a cluster does it; they write to files.

Nothing here waits: `look` says what has happened since it was called last.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from trainer.agent.local_group import end_with_parent, group_environ
from trainer.agent.process import this_command
from trainer.chaos.processes import send
from trainer.errors import ENDS_RUN

# Nobody starts an agent again that ended so: 1 may be a store's, 76 and 143 a node's.
_FINAL = (0, *ENDS_RUN)
_SHOWN_LINES = 5

# Starts `trainer` with these arguments, with these variables beside one's own, and with a file as
# its output; returns its pid.
StartAgent = Callable[[Sequence[str], Mapping[str, str], Path], int]


def start_agent(arguments: Sequence[str], environ: Mapping[str, str], output: Path) -> int:
    """As this command was started; the `StartAgent` of real life."""
    with output.open("ab") as file:
        process = subprocess.Popen(
            [*this_command(), *arguments], env={**os.environ, **environ},
            stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
            preexec_fn=end_with_parent,  # noqa: PLW1509
        )  # fmt: skip
    # Waited for by pid: the object would warn when it goes before the process does.
    process.returncode = 0
    return process.pid


@dataclass(frozen=True)
class Event:
    """A line of the output of agent `index` or of its worker; `time` is Unix time."""

    index: int
    time: float
    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Agent:
    """One seat of the group. `codes` are of all processes that had it and ended."""

    index: int
    output: Path
    pid: int | None = None
    codes: list[int] = field(default_factory=list)
    start_at: float = 0.0
    _position: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether nobody starts it again."""
        return self.pid is None and bool(self.codes) and self.codes[-1] in _FINAL

    def read(self) -> Iterator[Event]:
        """What was written since the last time, but for lines that are no events."""
        with self.output.open("rb") as file:
            file.seek(self._position)
            text = file.read()
        lines = text[: text.rfind(b"\n") + 1]
        self._position += len(lines)
        for line in lines.splitlines():
            if (event := _event(self.index, line)) is not None:
                yield event

    def last_lines(self) -> str:
        """The end of the output, for people."""
        lines = self.output.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line[:500]}" for line in lines[-_SHOWN_LINES:])


class Agents:
    """`num_workers` of them, with `arguments`, their output in `folder`.

    restart: seconds until a process that ended has a successor.
    """

    def __init__(
        self, num_workers: int, arguments: Sequence[str], folder: Path, *,
        start: StartAgent = start_agent, restart: Callable[[], float] = lambda: 0.0,
    ) -> None:  # fmt: skip
        folder.mkdir(parents=True)
        self.folder = folder
        self._arguments = arguments
        self._environ = group_environ(num_workers)
        self._start = start
        self._restart = restart
        self.all = [Agent(index, folder / f"agent-{index}.jsonl") for index in range(num_workers)]
        for agent in self.all:
            agent.output.touch()

    def look(self) -> list[Event]:
        """Start who is to be started, bury who has ended; what was written and what ended."""
        now = time.monotonic()
        for agent in self.all if not self._is_over else ():
            if agent.pid is None and now >= agent.start_at:
                own = {"TRAINER_WORKER_INDEX": str(agent.index)}
                agent.pid = self._start(self._arguments, {**self._environ, **own}, agent.output)
        return [event for agent in self.all for event in (*self._bury(agent), *agent.read())]

    def _bury(self, agent: Agent) -> Iterator[Event]:
        if agent.pid is None:
            return
        pid, status = os.waitpid(agent.pid, os.WNOHANG)
        if pid == 0:
            return
        agent.pid = None
        agent.codes.append(os.waitstatus_to_exitcode(status))
        agent.start_at = time.monotonic() + self._restart()
        yield Event(agent.index, time.time(), "agent ended", {"code": agent.codes[-1]})

    @property
    def code(self) -> int | None:
        """The run's exit code, once no agent is there any more."""
        if not self._is_over or any(agent.pid is not None for agent in self.all):
            return None
        codes = [agent.codes[-1] for agent in self.all]
        return codes[0] or next((code for code in codes if code != 0), 0)

    @property
    def _is_over(self) -> bool:
        """Whether one has ended for good: the others have no group to come back to."""
        return any(agent.has_ended for agent in self.all)

    def describe(self) -> str:
        """Who lives, and what each one said last."""
        return "\n".join(
            f"  agent {agent.index}: {_state(agent)}, {agent.output}\n{agent.last_lines()}"
            for agent in self.all
        )

    def close(self, number: int) -> None:
        """End what still runs; workers end with their agents."""
        for agent in self.all:
            if agent.pid is not None:
                send(agent.pid, number)
                os.waitpid(agent.pid, 0)
                agent.pid = None


def _state(agent: Agent) -> str:
    state = f"process {agent.pid}" if agent.pid is not None else "no process"
    return f"{state}, ended before with {agent.codes}" if agent.codes else state


def _event(index: int, line: bytes) -> Event | None:
    try:
        fields = json.loads(line)
        name, when = fields.pop("event"), datetime.fromisoformat(fields.pop("timestamp"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return Event(index, when.timestamp(), str(name), fields)
