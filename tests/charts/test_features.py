"""Every ci/*-values.yaml, by both helms, for all versions of Kubernetes, against their schemas."""

import subprocess

import pytest
import yaml

from tests.charts.rendered import (
    GROUP,
    MONITORING,
    ONE,
    POD_MONITOR,
    PROMETHEUS_RULE,
    ROOT,
    TRAINER,
    helm,
    merged,
    objects,
    rendered,
)
from tests.charts.restricted import problems

SCHEMAS = ROOT / ".tools" / "schemas"
VERSIONS = ["1.31", "1.32", "1.33", "1.34", "1.35"]
FEATURES = [
    pytest.param(chart, file, id=f"{chart.name}-{file.stem.removesuffix('-values')}")
    for chart in (TRAINER, MONITORING)
    for file in sorted((chart / "ci").glob("*-values.yaml"))
]
LOCATION = "{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"


def validate(text: str, version: str) -> subprocess.CompletedProcess[str]:
    """kubeconform's verdict; a kind without a schema is an error."""
    folders = (SCHEMAS / f"v{version}", SCHEMAS / "resources")
    locations = [f"-schema-location={folder}/{LOCATION}" for folder in folders]
    command = ["kubeconform", "-strict", "-verbose", *locations, "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)


def feature(chart, file, version="1.35", command="helm"):
    words = [f"--values={file}", f"--kube-version={version}.0"]
    words += [f"--api-versions={api}" for api in (POD_MONITOR, PROMETHEUS_RULE)]
    return rendered({}, *words, chart=chart, command=command)


@pytest.mark.parametrize(
    "version",
    [
        VERSIONS[0],
        *(pytest.param(version, marks=pytest.mark.long) for version in VERSIONS[1:-1]),
        VERSIONS[-1],
    ],
)
@pytest.mark.parametrize(("chart", "file"), FEATURES)
def test_it_is_valid_for_every_version(chart, file, version):
    text = feature(chart, file, version)
    found = validate(text, version)
    assert found.returncode == 0, found.stdout
    assert found.stdout.count("is valid") == len([one for one in yaml.safe_load_all(text) if one])


@pytest.mark.parametrize(("chart", "file"), FEATURES)
def test_both_helms_render_it_alike(chart, file):
    new, old = (feature(chart, file, command=command) for command in ("helm", "helm3"))
    assert list(yaml.safe_load_all(new)) == list(yaml.safe_load_all(old))


@pytest.mark.parametrize("command", ["helm", "helm3"])
@pytest.mark.parametrize(("chart", "file"), FEATURES)
def test_it_passes_a_strict_lint(chart, file, command):
    found = helm(
        "lint", "--strict", chart, f"--values={file}", "--kube-version=1.35.0", command=command
    )
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize(("chart", "file"), FEATURES)
def test_f73_it_meets_pod_security_restricted(chart, file):
    assert problems(feature(chart, file)) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"securityContext__capabilities__drop": ["NET_RAW"]}, "capabilities"),
        ({"podSecurityContext__runAsUser": 0}, "runAsUser"),
        ({"podSecurityContext__seccompProfile": None}, "seccompProfile"),
        ({"volumes": [{"name": "node", "hostPath": {"path": "/"}}]}, "volume node"),
        ({"securityContext__readOnlyRootFilesystem": False}, "readOnlyRootFilesystem"),
    ],
)
def test_what_is_not_restricted_is_found(changes, said):
    assert any(said in one for one in problems(rendered(merged(ONE, **changes))))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("podReplacementPolicy: Failed", "podReplacementPolici: Failed"),
        ("containerPort: 9400", "containerPort: metrics"),
        ("kind: NetworkPolicy", "kind: NetworkPolice"),
    ],
)
def test_what_is_not_valid_is_found(before, after):
    text = rendered(GROUP)
    assert before in text
    assert validate(text.replace(before, after), "1.35").returncode != 0


def test_every_template_is_rendered_by_a_feature():
    for chart in (TRAINER, MONITORING):
        texts = [feature(c, f) for c, f in (one.values for one in FEATURES) if c == chart]
        # Where the operator's API is not there.
        texts += [rendered({}, chart=chart)] if chart == MONITORING else []
        files = {path.name for path in (chart / "templates").rglob("*.yaml")}
        sources = {
            line.rsplit("/", 1)[1] for t in texts for line in t.splitlines() if "# Source" in line
        }
        # A secret is made only where a cluster can be asked for it.
        assert files - sources <= {"secret.yaml"}


def test_an_own_user_is_possible():
    found = objects(merged(ONE, podSecurityContext__runAsUser=2000))
    assert found["Job"]["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == 2000
