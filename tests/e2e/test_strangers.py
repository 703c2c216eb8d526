"""A stranger is refused twice over; Prometheus reaches the metrics, and nothing else."""

import json
import re
from pathlib import Path

import pytest

from tests.e2e.kube import CommandError, Kube, escape, wait_until
from tests.e2e.pods import pod, run_to_its_end
from tests.e2e.values import IMAGE, SAVE_EVERY

ROOT = Path(__file__).parents[2]
GATHERING, TENSORFLOW, METRICS = 8470, 20000, 9400
# Told with the address and the ports that it should try.
_CONNECT = """
import socket, sys
for port in sys.argv[2:]:
    try:
        socket.create_connection((sys.argv[1], int(port)), timeout=3).close()
        print(port, "open")
    except ConnectionRefusedError:
        print(port, "nobody there")
    except OSError:
        print(port, "kept out")
"""
KEPT_OUT = {GATHERING: "kept out", TENSORFLOW: "kept out", METRICS: "kept out"}


def try_to_connect(kube, name, address, labels):
    """What becomes of a connection to each port, from a pod with these labels."""
    ports = map(str, KEPT_OUT)
    command = ["python", "-c", _CONNECT, address, *ports]
    said = run_to_its_end(kube, pod(name, IMAGE, command=command, labels=labels))
    return {int(line.split()[0]): line.partition(" ")[2] for line in said.splitlines()}


def test_stranger_is_kept_out_by_the_policy(disturbed_run, undisturbed, tell):
    run = disturbed_run
    leader = run.pods()[0]
    address, labels = leader["status"]["podIP"], leader["metadata"]["labels"]
    before = run.lives(0, 1, 2)
    found = try_to_connect(run.kube, "stranger", address, {"app.kubernetes.io/name": "stranger"})
    tell(f"a pod of another label: {found}")
    assert found == KEPT_OUT
    own = {key: text for key, text in labels.items() if key.startswith("app.kubernetes.io/")}
    # A pod of the run's own labels gets through, so it was the policy that kept the other out.
    found = try_to_connect(run.kube, "own", address, own)
    tell(f"a pod of the run's own labels: {found}")
    assert found[GATHERING] == "open"
    assert found[METRICS] == "kept out"
    assert run.wait_until_complete() == undisturbed
    assert run.lives(0, 1, 2) == before


def test_stranger_is_refused_by_the_agent(disturbed_run, undisturbed, tell):
    run = disturbed_run
    before = run.lives(0, 1, 2)
    with pytest.raises(CommandError) as refused:
        run_to_its_end(run.kube, impostor(run.pods()[1]))
    ended = [json.loads(line) for line in str(refused.value).splitlines() if line[:1] == "{"][-1]
    tell(f"a pod of the right labels with a wrong secret: code {ended['code']}: {ended['reason']}")
    assert ended["code"] == 76
    assert run.wait_until_complete() == undisturbed
    assert run.lives(0, 1, 2) == before
    warned = [event for event in run.logs(0) if "did not prove" in json.dumps(event)]
    assert warned


def impostor(original):
    """A pod like worker 1's, made by somebody who does not know the secret."""
    spec = original["spec"]
    (container,) = spec["containers"]
    known = {variable["name"]: variable for variable in container["env"]}
    known["TRAINER_GROUP_SECRET_FILE"] = {
        "name": "TRAINER_GROUP_SECRET",
        "value": "guessed-guessed-guessed-guessed!",
    }
    job = original["metadata"]["labels"]["batch.kubernetes.io/controller-uid"]
    known["TRAINER_JOB_ID"] = {"name": "TRAINER_JOB_ID", "value": job}
    known["TRAINER_WORKER_INDEX"] = {"name": "TRAINER_WORKER_INDEX", "value": "1"}
    arguments = [*container["args"], "--set=cluster.wait_seconds=15"]
    labels = {
        key: text
        for key, text in original["metadata"]["labels"].items()
        if key.startswith("app.kubernetes.io/")
    }
    kept = ("image", "imagePullPolicy", "name", "securityContext", "volumeMounts")
    changed = {"args": arguments, "env": list(known.values())}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "impostor", "labels": labels},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{key: container[key] for key in kept} | changed],
            "securityContext": spec["securityContext"],
            "volumes": spec["volumes"],
        },
    }


class Prometheus:
    """The one of the namespace that scrapers are allowed in."""

    def __init__(self):
        self._kube = Kube("monitoring")

    def query(self, expression):
        """The series that an expression gives now."""
        answer = self._kube.http("prometheus:9090", f"api/v1/query?query={escape(expression)}")
        return json.loads(answer)["data"]["result"]

    def names(self):
        """All names of series that it ever had."""
        return set(json.loads(self._kube.http("prometheus:9090", _NAMES))["data"])


_NAMES = "api/v1/label/__name__/values"
_ENDINGS = ("", "_bucket", "_count", "_sum", "_total")


def test_prometheus_scrapes_every_series_that_rules_and_dashboards_name(disturbed_run, tell):
    run, prometheus = disturbed_run, Prometheus()
    up = f'up{{namespace="{run.kube.namespace}",pod=~"{run.name}-.*"}} == 1'
    wait_until("3 pods scraped", lambda: len(prometheus.query(up)) == 3, seconds=30)
    tell(f"Prometheus scrapes 3 pods of {run.name}")
    run.wait_for_step(5 * SAVE_EVERY)
    run.kube.evict(run.pod_name(1))
    run.wait_until_complete()
    named = named_series()
    missing = named - prometheus.names()
    tell(f"{len(named)} series are named in rules and dashboards; missing: {sorted(missing)}")
    assert named
    assert not missing


def named_series():
    """The names of the trainer's series that the monitoring chart's files use."""
    files = (ROOT / "helm" / "trainer-monitoring").rglob("*.*")
    found = (re.findall(r"\btrainer_[a-z_]+\b", file.read_text()) for file in files)
    return {name for names in found for name in names}
