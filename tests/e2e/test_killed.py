"""What the kernel kills: a worker for memory, and agent and worker together."""

import pytest

from k8s.cluster import sandbox
from k8s.cluster.places import default_place
from tests.e2e.checks import check
from tests.e2e.run import now
from tests.e2e.values import MEMORY_MIB

# Runs beside agent and worker in the pod's container: makes the worker the first that the kernel
# kills when memory is short, takes memory until it does, and gives it back at once.
_TAKE_MEMORY = """
import os, pathlib, time
def stat(process):
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["gone", ""]
def resident(process):
    return int((process / "statm").read_text().split()[1])
children = [one for one in pathlib.Path("/proc").glob("[0-9]*") if stat(one)[1] == "1"]
worker = max(children, key=resident)
(worker / "oom_score_adj").write_text("1000")
for _ in range(5):  # each stays smaller than the worker
    if os.fork() == 0:
        taken = []
        while stat(worker)[0] not in ("Z", "X", "gone"):
            if len(taken) < 250:
                taken.append(b"x" * 1_000_000)
            time.sleep(0.005)  # more slowly than the kernel gives a killed process's memory back
        os._exit(0)
for _ in range(5):
    os.wait()
"""


def test_worker_killed_for_memory(disturbed_run, undisturbed, tell):
    run = disturbed_run
    before = run.lives(0, 1, 2)
    since = now()
    run.kube("exec", run.pod_name(1), "--", "python", "-c", _TAKE_MEMORY)
    tell(f"memory taken in pod 1 until the kernel killed its worker, after step {run.step()}")
    check(run, undisturbed, unhurt=(0, 1, 2), before=before, since=since, tell=tell)
    reasons = [event["reason"] for event in run.logs(1) if event["event"] == "worker restarts"]
    tell(f"pod 1 said: {reasons[0]}")
    assert f"container's {MEMORY_MIB} MiB of memory run out" in reasons[0]
    assert run.charged_failures() == 0


def test_agent_and_worker_killed_together(disturbed_run, undisturbed, tell):
    first = sandbox.running(default_place())
    if first is None:
        pytest.skip("kills from outside of the container: on the cluster of make cluster-up only")
    run = disturbed_run
    before = run.lives(0, 2)
    since = now()
    pod = run.pods()[1]
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    kill = ("ctr", "--namespace=k8s.io", "task", "kill", "--all", "--signal=SIGKILL", container)
    result = sandbox.enter(first, *kill)
    assert result.returncode == 0, result.stderr
    tell(f"all processes of pod 1 killed after step {run.step()}")
    check(run, undisturbed, unhurt=(0, 2), before=before, since=since, tell=tell)
    assert run.charged_failures() == 1
