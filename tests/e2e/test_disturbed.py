"""Whatever is done to its pods, a run ends with the result of the undisturbed one.

Pods to which nothing is done go on: the same pod, its container not started anew.
"""

import pytest

from tests.e2e.run import now

DISTURB_AT = 40


@pytest.fixture
def run(make_run, request):
    """A run of three that has saved its second checkpoint."""
    run = make_run(request.node.name.removeprefix("test_").replace("_", "-"))
    run.install()
    run.wait_for_step(DISTURB_AT)
    return run


def check(run, undisturbed, *, unhurt, before, since, tell):
    """The run completes as if nothing had happened, and nothing did to the others."""
    summary = run.wait_until_complete()
    seconds = run.seconds_to_first_step(since)
    tell(f"complete; {seconds:.1f} s from the disturbance to the first new step")
    assert summary["sha256"] == undisturbed["sha256"]
    assert run.lives(*unhurt) == before
    return summary


def test_undisturbed(undisturbed, tell):
    tell(f"3 pods: {undisturbed['steps']} steps, weights {undisturbed['sha256'][:12]}")
    assert undisturbed["steps"] == 600


def test_evicted(run, undisturbed, tell):
    before = run.lives(0, 2)
    since = now()
    run.kube.evict(run.pod_name(1))
    tell(f"pod 1 evicted by the Eviction API after step {run.step()}")
    check(run, undisturbed, unhurt=(0, 2), before=before, since=since, tell=tell)
    assert run.charged_failures() == 0


def test_leader_deleted(run, undisturbed, tell):
    before = run.lives(1, 2)
    since = now()
    run.kube("delete", "pod", run.pod_name(0), "--wait=false")
    tell(f"pod 0 deleted after step {run.step()}")
    check(run, undisturbed, unhurt=(1, 2), before=before, since=since, tell=tell)
    assert run.charged_failures() == 0


def test_force_deleted(run, undisturbed, tell):
    before = run.lives(0, 1)
    since = now()
    run.kube("delete", "pod", run.pod_name(2), "--force", "--grace-period=0")
    tell(f"pod 2 deleted by force after step {run.step()}")
    check(run, undisturbed, unhurt=(0, 1), before=before, since=since, tell=tell)
    assert run.charged_failures() == 0
