"""Runs the tests marked `long` and keeps what came of them in docs/results/DATE.json.

Arguments go to pytest. With `--as NAME` before them, all the tests that they name are run, and kept
in DATE-NAME.json. What was kept before on that day stays. The exit code is pytest's.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from scripts.results import ROOT, circumstances, keep


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
