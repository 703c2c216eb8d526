"""Runs as JobSets, and runs that Kueue admits, lets wait and preempts."""

import pytest

from tests.e2e.checks import check, check_complete
from tests.e2e.kube import wait_until

FLAVOR = "e2e"
QUEUE = "e2e"
KUEUE = "kueue.x-k8s.io/v1beta1"


@pytest.fixture(scope="module")
def queue(kube):
    """A queue with room for one run of three pods; the more important run takes it."""
    quota = [{"name": "cpu", "nominalQuota": "1"}, {"name": "memory", "nominalQuota": "3Gi"}]
    group = {
        "coveredResources": ["cpu", "memory"],
        "flavors": [{"name": FLAVOR, "resources": quota}],
    }
    cluster_queue = {
        "namespaceSelector": {},
        "preemption": {"withinClusterQueue": "LowerPriority"},
        "resourceGroups": [group],
    }
    objects = [
        {"apiVersion": KUEUE, "kind": "ResourceFlavor", "metadata": {"name": FLAVOR}},
        {
            "apiVersion": KUEUE, "kind": "ClusterQueue", "metadata": {"name": QUEUE},
            "spec": cluster_queue,
        },
        {
            "apiVersion": KUEUE, "kind": "LocalQueue", "metadata": {"name": QUEUE},
            "spec": {"clusterQueue": QUEUE},
        },
        {
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": "e2e-important"}, "value": 100,
        },
    ]  # fmt: skip
    kube.apply(*objects)
    yield {"kueue": {"queueName": QUEUE}}
    kube("delete", "localqueue,clusterqueue,resourceflavor", QUEUE)
    kube("delete", "priorityclass", "e2e-important")


def is_suspended(run):
    return run.job()["spec"].get("suspend", False)


def test_second_run_waits_for_room(make_run, queue, undisturbed, tell):
    first, second = make_run("first", **queue), make_run("second", **queue)
    first.install()
    wait_until("the first admitted", lambda: not is_suspended(first))
    second.install()
    first.wait_for_step(1)
    assert is_suspended(second)
    assert not second.pods()
    tell("the second run waits without pods while the first one trains")
    assert first.wait_until_complete() == undisturbed
    assert second.wait_until_complete() == undisturbed
    tell("the first is complete, then the second")


def test_preempted_by_kueue(make_run, queue, undisturbed, tell):
    run = make_run("modest", **queue)
    important = make_run("important", **queue, priorityClassName="e2e-important")
    run.install()
    run.wait_for_step(1)
    before = run.moment()
    important.install()
    wait_until("preempted", lambda: is_suspended(run) and not run.pods(), seconds=60)
    step = run.step()
    tell(f"preempted by a more important run: suspended, step {step} saved")
    assert important.wait_until_complete() == undisturbed
    check(run, undisturbed, before=before, unhurt=(), tell=tell)
    assert run.first_restored(before.time) == step


def test_jobset(make_run, undisturbed, tell):
    run = make_run("jobset", workload={"kind": "JobSet"})
    run.install()
    run.wait_for_step(1)
    before = run.moment()
    run.kube.evict(run.pod_name(1))
    tell(f"pod 1 of a JobSet evicted after step {before.step}")
    wait_until("the JobSet completed", lambda: completed(run), seconds=300)
    check_complete(run, undisturbed, before=before, unhurt=(0, 2), tell=tell)


def completed(run):
    (jobset,) = run.kube.list("jobsets", run.selector)
    conditions = jobset.get("status", {}).get("conditions", [])
    return any(one["type"] == "Completed" and one["status"] == "True" for one in conditions)
