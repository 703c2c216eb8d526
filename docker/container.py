"""Containers of one image, as the chart runs them: read-only root, a number as user, no rights."""

import itertools
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

DEADLINE = 90
_AS_THE_CHART = (
    "--rm", "--network=none", "--read-only", "--cap-drop=ALL",
    "--security-opt=no-new-privileges", "--user=10001:10001",
    # A machine may allow less than the engine would set.
    "--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096",
)  # fmt: skip
# Podman would make more than /tmp writable, and may prefer a runtime that refuses cgroup v1.
_FLAGS = {
    "docker": ("--tmpfs=/tmp:mode=1777",),
    "podman": ("--read-only-tmpfs=false", "--mount=type=tmpfs,destination=/tmp"),
}
_RUNTIME = {"docker": (), "podman": ("--runtime=runc",)}
_numbers = itertools.count()


@dataclass
class Image:
    """A built image, and the engine that has it."""

    name: str
    engine: str = field(default_factory=lambda: os.environ.get("ENGINE", "docker"))

    def run(self, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run a container to its end."""
        words = [*self._engine(), "run", *self._flags(), *options, self.name, *command]
        return subprocess.run(
            words, capture_output=True, text=True, timeout=DEADLINE, check=False
        )  # fmt: skip

    def start(self, *command: str, options: tuple[str, ...] = ()) -> "Container":
        """Start a container, whose output can be read."""
        name = f"trainer-test-{os.getpid()}-{next(_numbers)}"
        words = [*self._engine(), "run", f"--name={name}", *self._flags(), *options]
        process = subprocess.Popen(
            [*words, self.name, *command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        return Container(name, tuple(self._engine()), process)

    def configuration(self, template: str) -> str:
        """What the image's configuration says, by a template."""
        return self._output("image", "inspect", "--format", template, self.name)

    def extended(self, name: str, dockerfile: str, context: Path) -> "Image":
        """An image made from a Dockerfile, which is written beside what it takes."""
        (context / "Dockerfile").write_text(dockerfile)
        self._output("build", "--tag", name, str(context))
        return Image(name, self.engine)

    def _output(self, *command: str) -> str:
        result = subprocess.run(
            [*self._engine(), *command], capture_output=True, text=True, timeout=DEADLINE,
            check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def _engine(self) -> list[str]:
        return [self.engine, *_RUNTIME[self.engine]]

    def _flags(self) -> tuple[str, ...]:
        return (*_AS_THE_CHART, *_FLAGS[self.engine])


@dataclass
class Container:
    """A running container."""

    name: str
    engine: tuple[str, ...]
    process: subprocess.Popen[str]

    def __enter__(self) -> "Container":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self._engine("kill", "--signal=KILL", self.name)
        self.process.communicate(timeout=DEADLINE)

    def wait_for(self, text: str) -> str:
        """The first line of its output from here on that holds the text."""
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:  # pytest-timeout is the deadline
            seen.append(line)
            if text in line:
                return line
        raise AssertionError(f"no {text!r} in:\n{''.join(seen)}")

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside of it."""
        return self._engine("exec", self.name, *command)

    def terminate(self) -> int:
        """Send SIGTERM to PID 1; returns the exit code."""
        assert self._engine("kill", "--signal=TERM", self.name).returncode == 0
        self.process.communicate(timeout=DEADLINE)
        return self.process.returncode

    def _engine(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.engine, *command], capture_output=True, text=True, timeout=DEADLINE, check=False
        )
