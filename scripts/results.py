"""What is kept in docs/results/: when, of which commit, and on what it came to be."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
PACKAGES = {"jax", "keras", "numpy", "tensorflow", "tensorflow-cpu", "torch", "trainer-k8s"}


def commit(root: Path = ROOT) -> str:
    """The code's last one, marked where that was changed since; docs and results are no code.

    Empty where there is no repository.
    """
    code = ["--", ".", ":!docs", ":!bench/results"]
    last = ["git", "log", "-1", "--abbrev=12", "--format=%h", *code]
    changes = ["git", "status", "--porcelain", *code]
    found, changed = (
        subprocess.run(command, cwd=root, capture_output=True, text=True, check=False).stdout
        for command in (last, changes)
    )
    return found.strip() + ("+changes" if changed else "")


def versions() -> dict[str, str]:
    installed = {d.name.replace("_", "-"): d.version for d in distributions()}
    return {name: installed[name] for name in sorted(PACKAGES & installed.keys())}


def circumstances() -> dict[str, Any]:
    """When, on what and where tests run; asked before they do, since a checkout may change."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), **versions()},
    }


def keep(result: dict[str, Any], name: str, folder: Path = RESULTS) -> Path:
    """Write a result to DATE{name}.json; where that is there, to one with the time, too."""
    date = str(result["date"])
    file = folder / f"{date[:10]}{name}.json"
    if file.exists():
        file = folder / f"{date[:19].replace(':', '')}{name}.json"
    folder.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + "\n")
    print(f"kept in {file}")
    return file
