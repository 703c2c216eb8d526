"""A chart, rendered by the real helm, as objects."""

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
TRAINER = ROOT / "helm" / "trainer"
MONITORING = ROOT / "helm" / "trainer-monitoring"
POD_MONITOR = "monitoring.coreos.com/v1/PodMonitor"
PROMETHEUS_RULE = "monitoring.coreos.com/v1/PrometheusRule"
# Helm 3 takes what it was built for as the cluster's version, which Go's install leaves out.
KUBERNETES = "1.35.1"
ONE = {
    "image": {"repository": "registry.example/trainer"},
    "run": {"base": "gs://bucket/runs"},
    "config": {
        "recipe": "fashion_mnist",
        "data": {"url": "builtin:fashion_mnist", "batch_size": 96, "streams": 12},
        "train": {"epochs": 12},
    },
}
GROUP = ONE | {"workers": 3, "gathering": {"existingSecret": "known"}}


def helm(
    *words: str | Path, values: dict[str, Any] | None = None, command: str = "helm"
) -> subprocess.CompletedProcess[str]:
    """One command; values are read from standard input."""
    # JSON, since helm and PyYAML differ on which texts need quotes.
    text = json.dumps(values or {})
    return subprocess.run(
        [command, *words, "--values=-"], input=text, capture_output=True, text=True, timeout=60
    )


def rendered(
    values: dict[str, Any], *words: str, chart: Path = TRAINER, command: str = "helm",
    release: str = "demo", namespace: str = "ml",
) -> str:  # fmt: skip
    """What `helm template` prints for a release."""
    result = helm(
        "template", release, chart, f"--namespace={namespace}", f"--kube-version={KUBERNETES}",
        *words, values=values, command=command,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def objects(values: dict[str, Any], *words: str, **options: Any) -> dict[str, dict[str, Any]]:
    """Its objects by kind; each kind is there once."""
    found = [one for one in yaml.safe_load_all(rendered(values, *words, **options)) if one]
    by_kind = {one["kind"]: one for one in found}
    assert len(by_kind) == len(found)
    return by_kind


def refusal(values: dict[str, Any], *words: str, release: str = "demo") -> str:
    """Why helm renders nothing."""
    result = helm("template", release, TRAINER, "--namespace=ml", *words, values=values)
    assert result.returncode != 0, result.stdout
    return result.stderr


def notes(values: dict[str, Any], chart: Path = TRAINER) -> str:
    """What helm says at the end of an install."""
    result = helm("install", "demo", chart, "--namespace=ml", "--dry-run=client", values=values)
    assert result.returncode == 0, result.stderr
    return result.stdout.partition("\nNOTES:\n")[2]


def merged(values: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Values with changes, whose keys use __ for dots."""
    result = yaml.safe_load(yaml.safe_dump(values))
    for path, value in changes.items():
        *above, last = path.split("__")
        node = result
        for part in above:
            node = node.setdefault(part, {})
        node[last] = value
    return result


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    """The pod template's spec of a Job or JobSet."""
    return job_of(workload)["template"]["spec"]


def job_of(workload: dict[str, Any]) -> dict[str, Any]:
    """The spec of the Job."""
    if workload["kind"] == "JobSet":
        (only,) = workload["spec"]["replicatedJobs"]
        return only["template"]["spec"]
    return workload["spec"]


def environ(workload: dict[str, Any]) -> dict[str, Any]:
    """Variables of its container: a value, or the path of a field."""
    return {
        one["name"]: one["value"] if "value" in one else one["valueFrom"]["fieldRef"]["fieldPath"]
        for one in pod_of(workload)["containers"][0]["env"]
    }


def arguments(workload: dict[str, Any]) -> list[str]:
    """Of its container."""
    return pod_of(workload)["containers"][0]["args"]
