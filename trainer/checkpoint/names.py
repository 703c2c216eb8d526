"""What is called how in a run's folder, for those who need no more than the names."""

import re

CHECKPOINTS = "checkpoints"
SUMMARY_FILE = "summary.json"
COMMIT_FILE = "COMMIT"
_FOLDER = re.compile(r"step-([0-9]{1,18})-f([0-9]{1,18})")


def folder_name(step: int, fence: int) -> str:
    """Folder of a checkpoint; names sort by step within a fence."""
    return f"step-{step:08d}-f{fence}"


def parse_folder(name: str) -> tuple[int, int] | None:
    """(step, fence) of a checkpoint's folder, or None for any other name."""
    match = _FOLDER.fullmatch(name)
    if match is None:
        return None
    step, fence = int(match[1]), int(match[2])
    # Only as `folder_name` writes it: two folders never stand for the same checkpoint.
    return (step, fence) if folder_name(step, fence) == name else None
