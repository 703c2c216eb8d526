"""Starts and restarts the agents of a group, as a cluster would."""

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.emulator import free_port
from tests.faults.harness import DEADLINE, Life, Run

SECRET = "known to all agents of these tests"


def wait_until(condition: Any, what: str) -> None:
    """Until it is true; fails at the deadline."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether the process exists and has not ended."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def children_of(life: Any) -> list[int]:
    """The pids of an agent's children: its worker, and then maybe a spare one."""
    children = Path(f"/proc/{life.pid}/task/{life.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


def worker_of(life: Life) -> int:
    """The pid of an agent's present worker."""
    wait_until(lambda: children_of(life), "a worker")
    return children_of(life)[0]


@dataclass
class Agents:
    """The agents of one run; `lives` holds the newest of each index."""

    run: Run
    num_workers: int = 2
    settings: dict[str, Any] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    lives: dict[int, Life] = field(default_factory=dict)
    port: int = field(default_factory=free_port)

    def start(self, *indices: int, environ: Any = (), **more: Any) -> None:
        """Start these, by default all; `more` settings are of this start alone."""
        # What is saved is saved before the next step: a fault comes after a known checkpoint.
        settings = {"checkpoint__background": False, "train__steps_per_call": 1} | self.settings
        for index in indices or range(self.num_workers):
            own = {
                "TRAINER_NUM_WORKERS": str(self.num_workers),
                "TRAINER_WORKER_INDEX": str(index),
                "TRAINER_LEADER": f"127.0.0.1:{self.port}",
                "TRAINER_GROUP_SECRET": SECRET,
            }
            self.lives[index] = self.run.start(
                command="train", environ=own | self.environ | dict(environ), **settings | more
            )

    def codes(self, *indices: int, seconds: float = DEADLINE) -> list[int]:
        """Exit codes of these agents, by default of all."""
        return [self.lives[index].wait(seconds) for index in indices or sorted(self.lives)]

    def text(self) -> str:
        """What the newest agents said."""
        return "\n".join(f"--- {i}\n{life.text()}" for i, life in sorted(self.lives.items()))

    def train(self) -> None:
        """Start all, to the end."""
        self.start()
        assert self.codes() == [0] * self.num_workers, self.text()

    def kill_worker(self, index: int) -> None:
        """SIGKILL to one agent's worker."""
        os.kill(worker_of(self.lives[index]), signal.SIGKILL)

    def kill(self, index: int) -> None:
        """SIGKILL to an agent; its worker ends with it."""
        worker = worker_of(self.lives[index])
        self.lives[index].signal(signal.SIGKILL)
        self.lives[index].wait()
        wait_until(lambda: not is_running(worker), "the worker's end")


def gate(run: Run, at: int = 6, name: str = "gate") -> dict[str, Any]:
    """A callback with which all workers stand still at a step until the test opens it."""
    args = {"at": at, "path": str(run.folder / name)}
    return {"name": "tests.faults.inject:GateAt", "args": args, "stateless": True}


def at_the_gate(agents: Agents) -> None:
    """Wait until all workers stand there."""
    wait_until(
        lambda: sum("GateAt" in line for line in agents.run.fired()) == agents.num_workers,
        "all workers at the gate",
    )


def open_gate(run: Run, name: str = "gate") -> None:
    """For these workers and all that come."""
    (run.folder / name).touch()


def finish(agents: Agents, calm: Run) -> None:
    """To the end, which is the same as if nothing had happened."""
    open_gate(agents.run)
    assert agents.codes() == [0] * agents.num_workers, agents.text()
    assert agents.run.sha256() == calm.sha256()
    assert agents.run.summary()["history"] == calm.summary()["history"]
