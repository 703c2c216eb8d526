"""Examples of docs/, taken from a page as they stand: its files, its commands, and running them."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# As if both were on PATH.
_TOOLS = 'python() { "$PYTHON" "$@"; }\ntrainer() { python -P -m trainer "$@"; }\n'


def read_page(name: str) -> str:
    """The text of a page."""
    return (ROOT / "docs" / name).read_text()


def files_of(page: str) -> dict[str, str]:
    """Text by name of each block of code below a line that begins with its `name`."""
    found = re.findall(r"^`([\w.]+)` .*?\n\n```\w+\n(.*?)```", page, re.DOTALL | re.MULTILINE)
    return dict(found)


def write_files(page: str, folder: Path) -> None:
    """All of them, where the page would have them."""
    for name, text in files_of(page).items():
        (folder / name).write_text(text)


def commands_of(page: str) -> str:
    """What is to be typed, all blocks of it in their order."""
    return "".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL))


def run_commands(page: str, folder: Path) -> None:
    """Run them in that folder, by this Python and its trainer; each must succeed."""
    run(folder, "bash", "-euc", _TOOLS + commands_of(page))


def run(folder: Path, *command: str) -> str:
    """Standard output of a command that must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout
