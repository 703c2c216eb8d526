"""Starts, watches and compares real trainer processes."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from trainer.checkpoint.store import Checkpoint, CheckpointStore
from trainer.storage import open_storage

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60.0
# Groups of other test processes, which start at the same time, take no port of this one's.
_FIRST_PORT = 21_000 + 60 * (os.getpid() % 150)
OWN_PORTS = {"cluster.port_range": f"{_FIRST_PORT}-{_FIRST_PORT + 59}"}

# 270 records in batches of 32: nine steps an epoch, the last one smaller.
SMALL = {
    "recipe": "tests.faults.recipe:recipe",
    "data.url": "builtin:fashion_mnist",
    "data.train": "train[:270]",
    "data.validation": "test[:70]",
    "data.test": "test[:70]",
    "data.batch_size": 32,
    "data.block_records": 20,
    "train.epochs": 2,
    "metrics.enabled": False,
    "export.formats": [],
    "checkpoint.every_steps": 4,
}  # fmt: skip


class Zygote:
    """The process that forks trainers; one for a test session, and for a backend of Keras."""

    def __init__(self, **more: str) -> None:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("TRAINER_")}
        environ |= {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}
        environ |= {"KERAS_BACKEND": "tensorflow"} | more
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environ,
        )  # fmt: skip
        self._numbers = itertools.count()
        assert self._read() == {"ready": True}

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request and read its answer, and not that to a test that was broken off."""
        assert self._process.stdin is not None
        number = next(self._numbers)
        self._process.stdin.write(json.dumps({"number": number, **request}) + "\n")
        self._process.stdin.flush()
        while (answer := self._read())["number"] != number:
            pass
        return answer

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the zygote died"
        return dict(json.loads(line))

    def close(self) -> None:
        """End the zygote; its children have been waited for."""
        self._process.communicate(timeout=DEADLINE)


@dataclass
class Life:
    """One started process of a run."""

    zygote: Zygote
    pid: int
    output: Path
    code: int | None = None
    cpu_seconds: float = 0.0  # of the processors, when it has ended
    deadline: float = field(default_factory=lambda: time.monotonic() + DEADLINE)

    def wait(self, seconds: float = DEADLINE) -> int:
        """The exit code; negative for a signal. Kills and fails at the deadline."""
        if self.code is None:
            answer = self.zygote.ask({"wait": self.pid, "seconds": seconds})
            self.code, self.cpu_seconds = answer["code"], answer["cpu_seconds"]
            if self.code is None:
                os.kill(self.pid, 9)
                self.code = self.zygote.ask({"wait": self.pid, "seconds": 5})["code"]
                raise AssertionError(f"no end within {seconds} s:\n{self.text()}")
        return self.code

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, number)

    def text(self) -> str:
        """All it printed so far."""
        return self.output.read_text() if self.output.exists() else ""

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """JSON events so far, all or those of one name."""
        lines = [
            line for line in self.text().splitlines() if line.startswith("{") and line[-1:] == "}"
        ]
        events = [json.loads(line) for line in lines]
        return [e for e in events if name is None or e.get("event") == name]

    def wait_for(
        self, name: str, seconds: float = DEADLINE, *, by_prefix: bool = False
    ) -> dict[str, Any]:
        """The first event whose name is, or begins with, `name`; fails at the deadline."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for event in self.events():
                if event["event"] == name or (by_prefix and event["event"].startswith(name)):
                    return event
            time.sleep(0.01)
        raise AssertionError(f"no event {name} within {seconds} s:\n{self.text()}")


@dataclass
class Run:
    """A run's folder and the way to start processes on it."""

    zygote: Zygote
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    packaged: str | None = None  # a recipe that comes with the trainer, instead of SMALL
    script: tuple[str, ...] = ()  # a script and its arguments, instead of a recipe
    lives: list[Life] = field(default_factory=list)

    @property
    def dir(self) -> Path:
        """run.dir, unless the settings have another."""
        return self.folder / "run"

    @property
    def url(self) -> str:
        """run.dir."""
        return str(self.settings.get("run.dir", self.dir))

    @property
    def fault_log(self) -> Path:
        """Where faults say that they fired."""
        return self.folder / "faults.log"

    def start(
        self, *args: str, callbacks: Any = (), storage: Any = None, command: str = "worker",
        uid: int = 0, hosts: Path | None = None, environ: dict[str, str] | None = None,
        **settings: Any,
    ) -> Life:  # fmt: skip
        """Start a process; `settings` use __ for the dots of keys, `hosts` is its /etc/hosts."""
        base = {} if self.packaged or self.script else SMALL
        if self.script:
            command = {"train": "run"}.get(command, command)
            args = (*args, "--", *self.script)
        keys = (
            OWN_PORTS
            | base
            | self.settings
            | {k.replace("__", "."): v for k, v in settings.items()}
        )
        if callbacks:
            keys["callbacks"] = list(callbacks)
        if callbacks or self.lives:
            args = ("--allow-change", "callbacks", *args)
        config = self.folder / "run.yaml"
        if not config.exists():  # another process may read it just now
            config.write_text("train: {}\n")
        sets = [f"--set={key}={json.dumps(value)}" for key, value in keys.items()]
        argv = [
            command,
            "-c",
            self.packaged or str(config),
            f"--set=run.dir={self.dir}",
            *sets,
            *args,
        ]
        faults = {
            "FAULT_LOG": str(self.fault_log),
            "FAULT_RECORDS": str(self.folder / "records.jsonl"),
            "FAULT_STORAGE": json.dumps(storage),
        }
        output = self.folder / f"output-{len(self.lives)}.txt"
        request = {
            "argv": argv,
            "env": faults | self.environ | (environ or {}),
            "output": str(output),
        }
        request |= {"cwd": str(self.folder), "uid": uid, "hosts": hosts and str(hosts)}
        answer = self.zygote.ask(request)
        life = Life(self.zygote, answer["pid"], output)
        self.lives.append(life)
        return life

    def train(self, *args: str, **settings: Any) -> Life:
        """Start a process and wait for its end."""
        life = self.start(*args, **settings)
        life.wait()
        return life

    def take_over(self) -> None:
        """Another job writes its name into the lease, as it must: of a version, not beside it."""
        storage, deadline = open_storage(self.url), time.monotonic() + DEADLINE
        taken = None
        while taken is None:
            assert time.monotonic() < deadline, "the lease changes all the time"
            version = storage.stat("lease.json").version
            theirs = storage.read("lease.json").replace(b'"job": null', b'"job": "another"')
            taken = storage.replace("lease.json", theirs, version=version)

    def fired(self) -> list[str]:
        """The faults that fired so far."""
        return self.fault_log.read_text().splitlines() if self.fault_log.exists() else []

    @property
    def checkpoints(self) -> CheckpointStore:
        """The run's checkpoints."""
        return CheckpointStore(open_storage(f"{self.url}/checkpoints"))

    def committed(self) -> list[int]:
        """Steps of the committed checkpoints."""
        return [found.step for found in self.checkpoints.all() if found.committed]

    def last(self) -> Checkpoint:
        """The newest committed checkpoint, verified."""
        found = [found for found in self.checkpoints.all() if found.committed][-1]
        return self.checkpoints.read(found.name)

    def sha256(self) -> str:
        """sha256 over weights and optimizer variables at the run's end."""
        return self.last().manifest.sha256

    def summary(self) -> dict[str, Any]:
        """The summary of the complete run."""
        return dict(json.loads(open_storage(self.url).read("summary.json")))


def signal_at(at: int, name: str = "SIGKILL", hook: str = "on_train_batch_end") -> dict[str, Any]:
    """A callback that sends its own process a signal."""
    args = {"at": at, "name": name, "hook": hook}
    return {"name": "tests.faults.inject:SignalAt", "args": args, "stateless": True}


def storage_fault(action: str, at: int, operations: str, **more: Any) -> dict[str, Any]:
    """A fault at the n-th of some operations (space separated) on the checkpoints' storage."""
    fault = {"action": action, "at": at, "operations": operations.split(), "folder": "/checkpoints"}
    return fault | more


def kill_at_random_steps(run: Run, *, kills: int, steps: int, seed: int) -> list[int]:
    """SIGKILL one run `kills` times; returns from which step each of these lives went on.

    Most kills come 1 to 7 steps later, some in a validation pass or at an epoch's end; with a
    save in the background or, so that steps are won at all, with none.
    """
    chance, starts = random.Random(seed), []
    for _ in range(kills):
        done = max(run.committed(), default=0)
        hook = chance.choice([*["on_train_batch_end"] * 4, "on_test_batch_end", "on_epoch_end"])
        at = chance.randint(1, min(7, steps - done)) if hook == "on_train_batch_end" else 1
        often = {"checkpoint__every_steps": 2, "checkpoint__background": chance.random() < 0.3}
        life = run.train(callbacks=[signal_at(at, hook=hook)], **often)
        assert life.code == -signal.SIGKILL, life.text()
        starts.append(life.events("restore")[0]["step"])
        assert starts[-1] == done
    assert len(run.fired()) == kills
    assert any(one == next_ for one, next_ in pairwise(starts)), "no kills in a row"
    return starts


def finish(run: Run, undisturbed: Run, **settings: Any) -> None:
    """Go on from the newest checkpoint to the end, and compare with the undisturbed run.

    Without the first, a run that lost its checkpoints and began anew would be as equal.
    """
    newest = max(run.committed(), default=0)
    life = run.train(**settings)
    assert life.code == 0, life.text()
    assert life.events("restore")[0]["step"] == newest
    assert run.sha256() == undisturbed.sha256()
    assert run.summary()["history"] == undisturbed.summary()["history"]


def disturbed_and_calm(
    zygote: Zygote, folder: Path, settings: dict[str, object]
) -> tuple[Run, Run]:
    """Two runs of the same settings, each in a folder of its own."""
    runs = [Run(zygote, folder / name, settings) for name in ("disturbed", "calm")]
    for run in runs:
        run.folder.mkdir()
    assert runs[1].train().code == 0, runs[1].lives[0].text()
    return runs[0], runs[1]
