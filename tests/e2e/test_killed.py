"""What the kernel kills: a worker for memory, and agent and worker together."""

from dataclasses import replace

from tests.e2e.checks import check
from tests.e2e.pods import pod, run_to_its_end
from tests.e2e.values import IMAGE, MEMORY_MIB

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


# Runs among the processes of the node, since the first process of a container cannot be killed from
# inside of it: `kubectl exec` would not do. Told with the container.
_KILL = """
import os, pathlib, signal, sys, time
def is_inside(process):
    try:
        return sys.argv[1] in (process / "cgroup").read_text()
    except OSError:  # gone
        return False
found = [one for one in pathlib.Path("/proc").glob("[0-9]*") if is_inside(one)]
for process in found:
    try:
        os.kill(int(process.name), signal.SIGKILL)
    except ProcessLookupError:  # went with the first of them
        pass
print(len(found), time.time())
"""


def test_worker_killed_for_memory(disturbed_run, undisturbed, tell):
    run = disturbed_run
    before = run.moment()
    run.kube("exec", run.pod_name(1), "--", "python", "-c", _TAKE_MEMORY)
    tell(f"memory taken in pod 1 until the kernel killed its worker, after step {before.step}")
    check(run, undisturbed, before=before, unhurt=(0, 1, 2), tell=tell)
    reasons = [event["reason"] for event in run.logs(1) if event["event"] == "worker restarts"]
    tell(f"pod 1 said: {reasons[0]}")
    assert f"container's {MEMORY_MIB} MiB of memory run out" in reasons[0]
    assert run.charged_failures() == 0


def test_agent_and_worker_killed_together(disturbed_run, undisturbed, tell):
    run = disturbed_run
    before = run.moment()
    processes, when = run_to_its_end(run.kube, killer(run.pods()[1])).split()
    tell(f"{processes} processes of pod 1 killed, some time after step {before.step}")
    assert int(processes) >= 2  # agent and worker
    before = replace(before, time=float(when))
    check(run, undisturbed, before=before, unhurt=(0, 2), tell=tell)
    assert run.charged_failures() == 1


def killer(victim):
    """A pod that kills all processes of another one's container."""
    container = victim["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    made = pod("killer", IMAGE, command=["python", "-c", _KILL, container])
    made["spec"] |= {
        "hostPID": True,
        "nodeName": victim["spec"]["nodeName"],
        "securityContext": {"runAsUser": 0},
    }
    return made
