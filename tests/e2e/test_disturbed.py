"""Pods that Kubernetes takes away: the run ends with the result of the undisturbed one.

The other pods go on: the same pod, its container not started anew; and what is nobody's fault
is not charged to the Job's back-off limit.
"""

import pytest

from tests.e2e.checks import check
from tests.e2e.kube import wait_until
from tests.e2e.pods import pod
from tests.e2e.values import IMAGE, STEPS


def test_undisturbed(undisturbed, tell):
    tell(f"3 pods, {undisturbed.steps} steps; sha256 of the weights {undisturbed.sha256[:12]}")
    assert undisturbed.steps == STEPS


def evict(run, index):
    run.kube.evict(run.pod_name(index))


def delete(run, index):
    run.kube("delete", "pod", run.pod_name(index), "--wait=false")


def delete_by_force(run, index):
    run.kube("delete", "pod", run.pod_name(index), "--force", "--grace-period=0")


@pytest.mark.parametrize(
    ("take", "index", "unhurt"),
    [(evict, 1, (0, 2)), (delete, 0, (1, 2)), (delete_by_force, 2, (0, 1))],
    ids=["evicted", "leader deleted", "deleted by force"],
)
def test_pod_taken_away(disturbed_run, undisturbed, tell, take, index, unhurt):
    run = disturbed_run
    before = run.moment()
    take(run, index)
    tell(f"pod {index} of 3: {take.__name__.replace('_', ' ')}, after step {before.step}")
    check(run, undisturbed, before=before, unhurt=unhurt, tell=tell)
    assert run.charged_failures() == 0


def test_preempted(disturbed_run, undisturbed, tell, kube):
    run = disturbed_run
    before = run.moment()
    wait = ["python", "-c", "input()"]
    # Room for it is made by taking as few pods as will do.
    kube.apply(_PRIORITY, pod("urgent", IMAGE, command=wait, cpu="1300m", priority="e2e-urgent"))
    taken = wait_until("a pod preempted", lambda: changed(run, before.lives))
    tell(f"pods {taken} preempted by a pod of higher priority, after step {before.step}")
    kube("delete", "pod", "urgent", "--force", "--grace-period=0")
    unhurt = tuple(index for index in range(3) if index not in taken)
    check(run, undisturbed, before=before, unhurt=unhurt, tell=tell)
    assert run.charged_failures() == 0


_PRIORITY = {
    "apiVersion": "scheduling.k8s.io/v1",
    "kind": "PriorityClass",
    "metadata": {"name": "e2e-urgent"},
    "value": 1000,
}


def changed(run, lives):
    """The indices whose pod is told to end or is another one than before."""
    pods = run.pods()
    return [
        index
        for index, (uid, _) in lives.items()
        if index not in pods
        or pods[index]["metadata"]["uid"] != uid
        or "deletionTimestamp" in pods[index]["metadata"]
    ]
