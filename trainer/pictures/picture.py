"""What callbacks that draw have in common.

A picture is never worth a training: one that cannot be drawn or written is a warning, whatever
the reason. What can be known at the start, as a package that is missing, is refused there.
"""

import math
import re
import shutil
import time
from importlib.util import find_spec
from typing import Any

import keras

from trainer.callbacks.run_info import RunInfo
from trainer.errors import ConfigError
from trainer.log import get_log
from trainer.pictures.figure import rendered, style
from trainer.run.run_dir import PICTURES

_FILE = re.compile(r"[\w-][\w.-]{0,99}\.(png|svg)", re.ASCII)


class Picture(keras.callbacks.Callback):
    """One picture of a run: a subclass offers `figure`, and says in its hooks when to draw.

    A subclass that holds something from epoch to epoch overrides `get_state` and `set_state`: a
    resumed run then draws what the undisturbed one would have drawn.

    Args:
        file: its name in the folder `pictures/` of the run; the ending decides between PNG and SVG.
        every_seconds: it is drawn after an epoch at most so often, and at the end in any case.
    """

    chief_only = True
    reads_logs_only = True
    # Python packages and programs without which it cannot be drawn.
    packages: tuple[str, ...] = ("matplotlib",)
    programs: tuple[str, ...] = ()

    def __init__(self, file: str, every_seconds: float = 10.0) -> None:
        super().__init__()
        if not _FILE.fullmatch(file):
            raise ValueError(f"file {file!r} must be a plain name that ends in .png or .svg")
        self.file, self.kind = file, file.rpartition(".")[2]
        self._every_seconds = every_seconds
        self._drawn_at = -math.inf
        self._run: RunInfo | None = None

    def set_run(self, run: RunInfo) -> None:
        """Remember the run; ConfigError when it is clear already that nothing can be drawn."""
        self._run = run
        if run.writes:
            self._check_installed()
            self.check()

    @property
    def run(self) -> RunInfo:
        """The run; there once `set_run` was called, as it is before anything is drawn."""
        if self._run is None:
            raise RuntimeError(f"{type(self).__name__}.set_run was not called")
        return self._run

    def check(self) -> None:
        """Raise ConfigError when the run has nothing that could be drawn."""

    def figure(self) -> Any:
        """The matplotlib Figure, as it is now."""
        raise NotImplementedError

    def render(self) -> bytes:
        """The file's content; called on the worker that writes."""
        with style():
            return rendered(self.figure(), self.kind)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Draw what training has come to."""
        self.draw()

    def draw(self) -> None:
        """Draw and write the picture, or warn."""
        if self._run is None or not self._run.writes:
            return
        path = f"{PICTURES}/{self.file}"
        try:
            self._run.write(path, self.render())
            if not math.isfinite(self._drawn_at):
                get_log().info("picture", url=f"{self._run.storage.url}/{path}")
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            get_log().warning("picture not drawn", file=self.file, reason=reason)
        self._drawn_at = time.monotonic()

    def draw_now_and_then(self) -> None:
        """Draw, unless that was done a moment ago."""
        if time.monotonic() - self._drawn_at >= self._every_seconds:
            self.draw()

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from there."""

    def _check_installed(self) -> None:
        name = type(self).__name__
        if missing := [package for package in self.packages if not find_spec(package)]:
            raise ConfigError(
                f"callback {name} needs {' and '.join(missing)}: "
                "pip install 'trainer-k8s[pictures]'"
            )
        if missing := [program for program in self.programs if not shutil.which(program)]:
            raise ConfigError(
                f"callback {name} needs Graphviz' program {' and '.join(missing)}: install it "
                "(Debian: apt-get install graphviz; macOS: brew install graphviz), or leave the "
                "callback out"
            )
