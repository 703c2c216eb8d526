"""Where trainings happen: a folder of their own, and a store that runs while it is needed."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.emulator import Emulator, emulator
from trainer.chaos.agents import start_agent


class Stage:
    """Gives each training a folder, which goes when it is over unless it is kept."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._emulator: Emulator | None = None
        self.kept: list[Path] = []

    @contextmanager
    def place(self, name: str, store: str) -> Iterator[tuple[Path, str]]:
        """A folder for logs, and the URL of one for runs."""
        folder = self._folder / name
        folder.mkdir()
        url, objects = str(folder / "runs"), folder
        if store == "gs":
            objects = self._bucket(name)
            url = f"gs://{name}/runs"
        try:
            yield folder, url
        finally:
            for each in {folder, objects}.difference(self.kept):
                # What a request of a killed process still writes goes with all the rest.
                shutil.rmtree(each, ignore_errors=True)

    def start(self, arguments: Sequence[str], environ: Mapping[str, str], output: Path) -> int:
        """An agent. Where TensorFlow leaves files when it is killed, they go with all the rest."""
        own = {"TMPDIR": str(self._folder / "tmp")}
        return start_agent(arguments, {**environ, **own}, output)

    def keep(self, name: str) -> list[Path]:
        """Leave what this training has written, for whoever wants to know why."""
        both = (self._folder / name, self._folder / "store" / name)
        found = [path for path in both if path.exists()]
        self.kept += found
        return found

    def _bucket(self, name: str) -> Path:
        root = self._folder / "store"
        if self._emulator is None:
            root.mkdir()
            self._emulator = self._stack.enter_context(emulator(root))
            os.environ |= self._emulator.environment()
        self._emulator.make_bucket(name)
        return root / name


@contextmanager
def stage() -> Iterator[Stage]:
    """All of it is removed at the end, unless something is kept."""
    folder = Path(tempfile.mkdtemp(prefix="trainer-campaign-"))
    (folder / "tmp").mkdir()
    with ExitStack() as stack:
        found = Stage(folder, stack)
        try:
            yield found
        finally:
            stack.close()
            if not found.kept:
                shutil.rmtree(folder)
