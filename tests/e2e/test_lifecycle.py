"""What users do with a run: a mistake, suspend and resume, upgrade, uninstall and install again."""

from tests.e2e.checks import check
from tests.e2e.kube import wait_until
from tests.e2e.run import now
from tests.e2e.values import configuration


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


def test_suspended_and_resumed(disturbed_run, undisturbed, tell):
    run = disturbed_run
    run.suspend(True)
    wait_until("no pods", lambda: not run.pods(), seconds=60)
    step = run.step()
    tell(f"suspended: all pods gone, step {step} saved")
    since = now()
    run.suspend(False)
    check(run, undisturbed, unhurt=(), before=[], since=since, tell=tell)
    assert restored(run) == [step]
    assert run.charged_failures() == 0


def test_upgraded_with_changed_immutable_fields(disturbed_run, undisturbed, tell):
    run = disturbed_run
    job, since = run.job()["metadata"]["name"], now()
    run.values["resources"]["requests"]["cpu"] = "310m"
    run.install()
    tell(f"upgraded after step {run.step()}: other resources, so another Job than {job}")
    assert run.job()["metadata"]["name"] != job
    check(run, undisturbed, unhurt=(), before=[], since=since, tell=tell)


def test_uninstalled_during_a_save_and_installed_again(make_run, undisturbed, tell):
    always = {"every_steps": 1, "every_epochs": None}
    run = make_run("uninstalled", config=configuration() | {"checkpoint": always})
    run.install()
    run.wait_for_step(2)
    run.uninstall()
    run.wait_until_gone()
    step = run.step()
    tell(f"uninstalled while each step was saved; step {step} is there")
    run.values["config"] = configuration()
    since = now()
    run.install()
    check(run, undisturbed, unhurt=(), before=[], since=since, tell=tell)
    assert restored(run) == [step]


def restored(run):
    """The steps that worker 0's newest pod went on from."""
    return [event["step"] for event in run.logs(0) if event["event"] == "restore"]
