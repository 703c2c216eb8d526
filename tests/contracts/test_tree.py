"""The file tree that README.md draws is the one that is there."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def drawn() -> set[str]:
    """The first word of each line of the block below README's heading "Files"."""
    block = (ROOT / "README.md").read_text().split("## Files")[1].split("```")[1]
    return {line.split()[0].rstrip("/") for line in block.strip().splitlines()}


def test_every_drawn_path_exists():
    assert not [path for path in drawn() if not (ROOT / path).exists()]


@pytest.mark.needs_git
def test_every_tracked_entry_is_drawn():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tracked = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert tracked
    assert not tracked - drawn()
