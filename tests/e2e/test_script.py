"""A user's `fit` script, brought along by --set-file: its result stays, whatever a pod meets."""

from tests.e2e.checks import check
from tests.e2e.values import SAVE_EVERY, SCRIPT, STEPS, script_values

SOURCE = f"--set-file=script.source={SCRIPT}"


def test_script_evicted(make_run, tell):
    calm, run = (make_run(name, **script_values()) for name in ("script-calm", "script"))
    calm.install(SOURCE)
    undisturbed = calm.wait_until_complete()
    tell(f"undisturbed: {undisturbed.steps} steps; sha256 of the weights {undisturbed.sha256[:12]}")
    assert undisturbed.steps == STEPS
    run.install(SOURCE)
    run.wait_for_step(SAVE_EVERY)
    before = run.moment()
    run.kube.evict(run.pod_name(1))
    tell(f"pod 1 of 3: evicted, after step {before.step}")
    check(run, undisturbed, before=before, unhurt=(0, 2), tell=tell)
    assert run.charged_failures() == 0
