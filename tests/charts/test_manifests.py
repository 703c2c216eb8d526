"""k8s/: what the chart renders, for kubectl and kustomize; never a secret."""

import subprocess
from pathlib import Path

import pytest
import yaml

from scripts.manifests import FOLDER, documents
from tests.charts.rendered import ROOT, environ
from tests.charts.restricted import problems
from tests.charts.test_features import validate

SAMPLES = sorted((FOLDER / "samples").glob("*.yaml"))
RENDERED = [FOLDER / f"{name}.yaml" for name in ("job", "kueue", "jobset")]


def load(path: Path) -> dict[str, dict]:
    found = [one for one in yaml.safe_load_all(path.read_text()) if one]
    return {one["kind"]: one for one in found}


def test_they_are_current():
    texts = documents()
    assert set(texts) == set(RENDERED)
    assert [path.name for path, text in texts.items() if path.read_text() != text] == [], "make k8s"


def test_charts_readmes_are_current(tmp_path):
    for name in ("trainer", "trainer-monitoring"):
        file = tmp_path / f"{name}.md"
        command = ["helm-docs", "--chart-search-root", "helm", "--log-level=warning",
                   "--chart-to-generate", f"helm/{name}", "--dry-run"]  # fmt: skip
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        file.write_text(found.stdout)
        assert found.stdout.strip() == (ROOT / "helm" / name / "README.md").read_text().strip()


@pytest.mark.parametrize("path", [*RENDERED, *SAMPLES], ids=lambda path: path.name)
def test_they_are_valid_and_restricted(path):
    found = validate(path.read_text(), "1.35")
    assert found.returncode == 0, found.stdout
    assert problems(path.read_text()) == []


@pytest.mark.parametrize("path", RENDERED, ids=lambda path: path.name)
def test_no_secret_and_nothing_of_helms_own(path):
    found = load(path)
    assert "Secret" not in found
    assert all("namespace" not in one["metadata"] for one in found.values())
    assert "helm.sh" not in path.read_text()
    assert "create secret generic" in path.read_text()


@pytest.mark.parametrize("path", RENDERED, ids=lambda path: path.name)
def test_what_the_head_says_to_edit_can_be_edited(path):
    head = path.read_text().partition("apiVersion")[0]
    assert ["image" in head, "run.dir" in head, "secret" in head] == [True] * 3
    config = load(path)["ConfigMap"]
    assert "gs://my-bucket/" in config["data"]["run.yaml"]
    assert "immutable" not in config


@pytest.mark.parametrize("path", RENDERED, ids=lambda path: path.name)
def test_the_head_names_the_workload(path):
    found = load(path)
    workload = found.get("Job") or found["JobSet"]
    name = workload["metadata"]["name"]
    assert f"kubectl delete {workload['kind'].lower()} {name} " in path.read_text()
    assert environ(workload)["TRAINER_LEADER"].startswith(name)


def test_kustomize_sets_the_image():
    found = subprocess.run(
        ["kustomize", "build", str(FOLDER)], capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0, found.stderr
    built = {one["kind"]: one for one in yaml.safe_load_all(found.stdout)}
    (container,) = built["Job"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example/trainer:0.1.0"
    assert built.keys() == load(FOLDER / "job.yaml").keys()


def test_the_queue_has_the_name_that_the_sample_waits_in():
    queue = load(FOLDER / "samples" / "queue.yaml")["LocalQueue"]["metadata"]["name"]
    job = load(FOLDER / "kueue.yaml")["Job"]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == queue


def test_kind_has_two_nodes_to_train_on():
    nodes = yaml.safe_load((FOLDER / "kind.yaml").read_text())["nodes"]
    assert [node["role"] for node in nodes] == ["control-plane", "worker", "worker"]
