"""A stranger is refused twice over; Prometheus reaches the metrics, and nothing else."""

import json

import pytest

from tests.e2e.kube import CommandError, wait_until
from tests.e2e.pods import pod, run_to_its_end
from tests.e2e.prometheus import Prometheus
from tests.e2e.values import IMAGE, SAVE_EVERY, configuration

GATHERING, METRICS = 8470, 9400
# Told with the address and the ports that it should try, for some seconds: who enforces policies
# needs some to know of a new pod; it may drop what is not allowed, or reject it.
_CONNECT = """
import socket, sys, time
closed, end = sys.argv[2:], time.monotonic() + 8
while closed and time.monotonic() < end:
    for port in list(closed):
        try:
            socket.create_connection((sys.argv[1], int(port)), timeout=1).close()
            closed.remove(port)
        except OSError:
            time.sleep(0.1)
print(*("closed" if port in closed else "open" for port in sys.argv[2:]))
"""
# The port among TensorFlow's on which a pod listens: of the sockets in state 0A.
_TENSORFLOW = """
rows = [line.split() for name in ("tcp", "tcp6") for line in open(f"/proc/net/{name}")]
ports = {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}
print(next(port for port in ports if 20000 <= port <= 20999))
"""


def try_to_connect(run, name, labels):
    """What becomes of a connection to each port of the leader, from a pod with these labels."""
    leader = run.pods()[0]
    tensorflow = run.kube("exec", leader["metadata"]["name"], "--", "python", "-c", _TENSORFLOW)
    ports = [str(GATHERING), tensorflow.strip(), str(METRICS)]
    command = ["python", "-c", _CONNECT, leader["status"]["podIP"], *ports]
    said = run_to_its_end(run.kube, pod(name, IMAGE, command=command, labels=labels))
    return dict(zip(("gathering", "tensorflow", "metrics"), said.split(), strict=True))


def own_labels(run):
    """What the run's pods are known by."""
    labels = run.pods()[0]["metadata"]["labels"]
    return {key: text for key, text in labels.items() if key.startswith("app.kubernetes.io/")}


@pytest.fixture
def run(make_run, request):
    """A run that goes on for as long as a test may look at it."""
    config = configuration()
    config["train"]["epochs"] = 1000
    run = make_run(request.node.name[5:30].replace("_", "-"), config=config)
    run.install()
    run.wait_for_step(SAVE_EVERY)
    before = run.lives(0, 1, 2)
    yield run
    step = run.step()
    run.wait_for_step(step + SAVE_EVERY)
    assert run.lives(0, 1, 2) == before, "the run was disturbed"


def test_policy_keeps_a_stranger_out(run, tell):
    # A pod of the run's own labels gets through: it is the policy that keeps the other out.
    for name, labels, is_open in (("own", own_labels(run), "open"), ("stranger", {}, "closed")):
        found = try_to_connect(run, name, labels)
        tell(f"ports of the leader for a pod with {name} labels: {found}")
        assert found == {"gathering": is_open, "tensorflow": is_open, "metrics": "closed"}


def test_agent_refuses_a_stranger(run, tell):
    with pytest.raises(CommandError) as refused:
        run_to_its_end(run.kube, impostor(run.pods()[1], own_labels(run)))
    said = [json.loads(line) for line in str(refused.value).splitlines() if line[:1] == "{"]
    ended = next(event for event in reversed(said) if event["event"] == "error")
    tell(f"a pod of the run's labels with a wrong secret: {ended['message']}")
    assert ended["code"] == 76
    # Each side says it: the leader proves first, so the impostor leaves before its own turn.
    refusals = [event for event in run.logs(0) if event["event"] == "connection refused"]
    assert [event for event in refusals if "before it proved itself" in event["reason"]]


def test_helm_test(run, tell):
    said = run.helm("test", run.name, "--logs", "--timeout=120s")
    tell(said.strip().splitlines()[-1])
    assert "strangers are kept out" in said


def impostor(original, labels):
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
    arguments = [*container["args"], "--set=cluster.wait_seconds=5"]
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


def test_prometheus_scrapes_the_pods(run, tell):
    prometheus = Prometheus()
    up = f'up{{namespace="{run.kube.namespace}",pod=~"{run.name}-.*"}} == 1'
    wait_until("3 pods scraped", lambda: len(prometheus.query(up)) == 3, seconds=30)
    tell(f"Prometheus scrapes 3 pods of {run.name}")
