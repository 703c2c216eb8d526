"""Runs tests/e2e on a real cluster, writes what came of it into docs/e2e.md, and keeps the result.

The cluster is the one of KUBECONFIG, or this machine's own, which is started and removed again
unless it was running. IMAGE is the trainer's image; an own cluster gets one that is built here.
Arguments go to pytest; what a part of the tests did is not written.
"""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from k8s.cluster import builds, sandbox  # noqa: E402
from k8s.cluster.images import Image, write_archive  # noqa: E402
from k8s.cluster.lifecycle import down, kubeconfig_of_another, load, search_path, up  # noqa: E402
from k8s.cluster.places import MODULES, ClusterError, Place, default_place  # noqa: E402
from scripts.results import circumstances, keep  # noqa: E402
from scripts.test_long import outcome, test_records  # noqa: E402

PAGE = ROOT / "docs" / "e2e.md"
EMULATOR = "localhost/fake-gcs-server:1"
# Of the modules of an own cluster, those that a reader wants to know the version of.
SHOWN = {
    "coredns": "github.com/coredns/coredns",
    "jobset": "sigs.k8s.io/jobset",
    "kueue": "sigs.k8s.io/kueue",
    "kube-router": "github.com/cloudnativelabs/kube-router/v2",
}


@dataclass(frozen=True)
class Test:
    """One test: how it ended, how long it took, and what it told."""

    name: str
    outcome: str
    seconds: float
    lines: tuple[str, ...]


def main(arguments: list[str]) -> int:
    """Run the tests; pytest's exit code."""
    place = default_place()
    result = circumstances()
    with _cluster(place) as environment, tempfile.TemporaryDirectory() as folder:
        report, transcript = Path(folder, "report.xml"), Path(folder, "transcript.jsonl")
        pytest = [sys.executable, "-m", "pytest", "tests/e2e", "-m", "e2e", "--verbose"]
        command = [*pytest, f"--junitxml={report}", "-o", "junit_family=xunit1", *arguments]
        kept = environment | {"E2E_TRANSCRIPT": str(transcript)}
        code = subprocess.run(command, cwd=ROOT, env=kept, check=False).returncode
        tests = read_tests(report, transcript)
        found = result["versions"] | versions(environment)
        result |= {"versions": found, "tests": test_records(report)}
    if tests and not arguments:
        PAGE.write_text(page(tests, {"commit": result["commit"]} | result["versions"]))
        print(f"written: {PAGE.relative_to(ROOT)}")
        keep(result, "-e2e")
    return code


@contextmanager
def _cluster(place: Place) -> Iterator[dict[str, str]]:
    """The environment of a cluster's users."""
    if kubeconfig_of_another(place):
        if not os.environ.get("IMAGE"):
            raise ClusterError("set IMAGE to an image of the trainer that this cluster can pull")
        yield dict(os.environ)
        return
    is_ours = sandbox.running(place) is None
    up(place)
    try:
        yield os.environ | _load_images(place) | {
            "KUBECONFIG": str(place.kubeconfig), "PATH": search_path(place),
        }  # fmt: skip
    finally:
        if is_ours:
            down(place)


def _load_images(place: Place) -> dict[str, str]:
    """Build the trainer's image and the emulator's, and give them to the cluster."""
    subprocess.run([ROOT / "scripts" / "tools.sh", "emulator"], check=True)
    archive = place.state / "emulator.tar"
    program = ROOT / ".tools" / "fake-gcs-server"
    write_archive(Image(EMULATOR, program, "/fake-gcs-server"), archive)
    load(place, str(archive))
    archive.unlink()
    load(place, os.environ.get("ARCHIVE") or _built_image())
    return {"IMAGE": "docker.io/library/trainer:e2e", "EMULATOR_IMAGE": EMULATOR}


def _built_image() -> str:
    script = [ROOT / "docker" / "stand-in.sh"]
    environment = os.environ | {"IMAGE": "trainer:e2e"}
    result = subprocess.run(script, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        raise ClusterError("the image was not built (above)")
    return result.stdout.splitlines()[-1]


def read_tests(report: Path, transcript: Path) -> list[Test]:
    """The tests of a JUnit report, each with its lines of the transcript."""
    text = transcript.read_text() if transcript.exists() else ""
    told = [json.loads(line) for line in text.splitlines()]
    lines = {story["test"]: tuple(story["lines"]) for story in told}
    return [
        Test(name, outcome(case), float(case.get("time", 0)), lines.get(name, ()))
        for case in ElementTree.parse(report).iter("testcase")
        for name in [str(case.get("name"))]
    ]


def versions(environment: dict[str, str]) -> dict[str, str]:
    """What the tests ran on."""
    nodes = json.loads(_output(["kubectl", "get", "nodes", "--output=json"], environment))
    node = nodes["items"][0]["status"]["nodeInfo"]
    linux = node["kernelVersion"].partition("-")[0]
    found = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {linux}",
        "Kubernetes": node["kubeletVersion"],
        "container runtime": node["containerRuntimeVersion"],
        "helm": _output(["helm", "version", "--short"], environment).strip(),
    }
    if environment["KUBECONFIG"] == str(default_place().kubeconfig):
        found |= {name: builds.versions(MODULES / name)[module] for name, module in SHOWN.items()}
    return found


def _output(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, timeout=60, check=True
    ).stdout


def page(tests: list[Test], found: dict[str, str]) -> str:
    """docs/e2e.md."""
    rows = [f"| {name} | {value} |" for name, value in found.items()]
    results = [f"| {words(test.name)} | {test.outcome} | {test.seconds:.0f} |" for test in tests]
    stories = [
        "\n".join([f"### {words(test.name)}\n", "```", *test.lines, "```\n"])
        for test in tests
        if test.lines
    ]
    return "\n".join(
        [
            "# End to end\n",
            "<!-- Written by `make e2e`. -->\n",
            f"The chart and the image on a [real cluster](cluster.md), {datetime.now(UTC):%F}.\n",
            "| | |\n|---|---|", *rows, "",
            "| test | result | seconds |\n|---|---|---|", *results, "",
            "## What happened\n", *stories,
        ]
    )  # fmt: skip


def words(name: str) -> str:
    """A test's name as a text, without the number of its fault."""
    return re.sub(r"^test_(f\d\d_)?", "", name).replace("_", " ").replace("[", ": ").rstrip("]")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ClusterError as error:
        sys.exit(f"make e2e: {error}")
