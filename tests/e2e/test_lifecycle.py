"""What users do with a run: a mistake, suspend and resume, upgrade, uninstall and install again."""

import pytest

from tests.e2e.checks import check
from tests.e2e.kube import wait_until
from tests.e2e.run import Run, at
from tests.e2e.values import IMAGE, chart_values, configuration, variables
from trainer.checkpoint.names import COMMIT_FILE

TRIES = 3


def test_configuration_error_fails_the_job_at_once(make_run, tell):
    run = make_run("mistaken", config=configuration() | {"recipe": "no.such:recipe"})
    run.install()
    failed = wait_until("the Job failed", lambda: run.condition("Failed"), seconds=90)
    tell(f"failed: {failed['reason']}: {failed['message']}")
    assert failed["reason"] == "PodFailurePolicy"
    ended = [pod["status"]["containerStatuses"][0]["state"] for pod in run.pods().values()]
    said = [state["terminated"] for state in ended if "terminated" in state]
    codes = {state["exitCode"] for state in said}
    assert 2 in codes
    message = next(state["message"] for state in said if state["exitCode"] == 2)
    tell(f"the pod's own message: {message.strip()[-200:]}")
    assert "no.such" in message


@pytest.mark.parametrize("suspend", [Run.suspend, Run.suspend_job], ids=["by helm", "by kubectl"])
def test_f13_suspended_and_resumed(disturbed_run, undisturbed, tell, suspend):
    run = disturbed_run
    before = run.moment()
    suspend(run, True)
    wait_until("no pods", lambda: not run.pods(), seconds=60)
    step = run.step()
    tell(f"suspended after step {before.step}: all pods gone, step {step} saved")
    told = [event["event"] for event in run.kept_log(1)]
    tell(f"what worker 1 said last is kept: {', '.join(told[-3:])}")
    assert told[-1] == "worker ended"
    resumed = run.moment()
    suspend(run, False)
    check(run, undisturbed, before=resumed, unhurt=(), tell=tell)
    assert run.first_restored(resumed.time) == step
    assert run.charged_failures() == 0


def test_upgraded_with_changed_immutable_fields(disturbed_run, undisturbed, tell):
    run = disturbed_run
    job, before = run.job()["metadata"]["name"], run.moment()
    run.values["resources"]["requests"]["cpu"] = "310m"
    run.install()
    tell(f"upgraded after step {before.step}: other resources, so another Job than {job}")
    assert run.job()["metadata"]["name"] != job
    check(run, undisturbed, before=before, unhurt=(), tell=tell)


def test_uninstalled_during_a_save_and_installed_again(make_run, store, undisturbed, tell):
    always = {"every_steps": 1, "every_epochs": None}
    # Longer than it takes from seeing that a save has begun to the stop of the pods.
    slow = store.start_slow(trainer=IMAGE, pattern=f"POST .*{COMMIT_FILE}", seconds=5)
    run = make_run(
        "uninstalled", config=configuration() | {"checkpoint": always}, extraEnv=variables(slow)
    )
    saved = next(filter(None, (uninstall(run, tell) for _ in range(TRIES))), None)
    assert saved is not None, f"told to stop {TRIES} times, and never during a save"
    tell(f"step {saved} was being saved when the pods were told to stop, and is there")
    before = run.moment()
    run.values.update(chart_values(store))
    run.install()
    check(run, undisturbed, before=before, unhurt=(), tell=tell)
    # The marker that pods have sent last may come when they are gone.
    assert run.first_restored(before.time) >= before.step >= saved


def uninstall(run, tell):
    """Install it, let it train and uninstall it; the step that was being saved at that time."""
    step = run.step()
    run.install()
    run.wait_for_step(step + 2)
    with run.following(0) as heard:
        run.wait_for_save()
        run.uninstall()
        run.wait_until_gone()
        told = at(next(event for event in heard() if event["event"] == "stopping"))
    tell(f"uninstalled while each step was saved; step {run.step()} is there")
    return run.step_being_saved(told)
