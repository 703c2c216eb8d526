"""Runs the tests marked `long` and keeps what came of them in docs/results/DATE.json.

Arguments go to pytest. With `--as NAME` before them, all the tests that they name are run, and kept
in DATE-NAME.json. What was kept before on that day stays. The exit code is pytest's.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
PACKAGES = {"jax", "keras", "numpy", "tensorflow", "tensorflow-cpu", "torch", "trainer-k8s"}


def git(*args: str) -> str:
    """What git says, empty where there is no repository."""
    command = ["git", *args]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return result.stdout.strip()


def versions() -> dict[str, str]:
    installed = {d.name.replace("_", "-"): d.version for d in distributions()}
    return {name: installed[name] for name in sorted(PACKAGES & installed.keys())}


def outcome(case: ElementTree.Element) -> str:
    """One of passed, failed, error, skipped: JUnit names all but the first by a child."""
    names = [child.tag for child in case if child.tag in {"failure", "error", "skipped"}]
    return names[0].replace("failure", "failed") if names else "passed"


def test_records(report: Path) -> list[dict[str, Any]]:
    """Name, outcome, seconds and recorded properties of every test in a JUnit report."""
    return [
        {
            "test": f"{case.get('classname')}.{case.get('name')}",
            "outcome": outcome(case),
            "seconds": round(float(case.get("time", 0)), 1),
            **{str(p.get("name")): p.get("value") for p in case.iter("property")},
        }
        for case in ElementTree.parse(report).iter("testcase")
    ]


def circumstances() -> dict[str, Any]:
    """When, on what and where tests run; asked before they do, since a checkout may change."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else ""),
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


def main() -> int:
    result = circumstances()
    name, arguments = "", ["-m", "long", *sys.argv[1:]]
    if sys.argv[1:2] == ["--as"]:
        name, arguments = f"-{sys.argv[2]}", sys.argv[3:]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        pytest = [sys.executable, "-m", "pytest", f"--junitxml={report}"]
        xunit1 = ["-o", "junit_family=xunit1"]  # the newer family has no record_property
        code = subprocess.run([*pytest, *xunit1, *arguments], cwd=ROOT, check=False).returncode
        tests = test_records(report) if report.exists() else []
    if not tests:
        print("no test was run: nothing kept", file=sys.stderr)
        return code or 5
    keep(result | {"tests": tests}, name)
    return code


if __name__ == "__main__":
    sys.exit(main())
