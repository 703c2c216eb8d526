"""F42: overflows of scaled gradients in real processes."""

import numpy as np
import pytest

from tests.faults.harness import Run, disturbed_and_calm, finish
from tests.faults.test_metrics_faults import at_gate

# Its gradients are infinite in float16 for the first steps; it doubles again after three.
SETTINGS = {
    "recipe": "tests.faults.scaled_recipe:scaled",
    "params.scale": 2.0**19,
    "train.precision": "mixed_float16",
}


def state(run: Run) -> dict[str, np.ndarray]:
    """Variables of the last checkpoint by the ends of their names."""
    arrays = run.last().arrays
    return {name.rsplit("/", 1)[1]: array for name, array in arrays.items()}


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.long)])
def test_f42_overflows_are_skipped_counted_and_resumed(zygote, tmp_path, replicas):
    settings = SETTINGS | {"cluster.replicas": replicas, "train.accumulate_steps": replicas}
    run, calm = disturbed_and_calm(zygote, tmp_path, settings)
    first, page = at_gate(run, 7, tmp_path / "never", checkpoint__background=False)
    first.signal(9)
    assert first.wait() == -9
    skipped = page["trainer_skipped_steps_total"]
    assert 2 <= skipped < 7, "no overflow, or nothing else"
    assert page["trainer_nonfinite_steps_total"] == 0
    finish(run, calm)
    after = state(run)
    assert all(np.all(np.isfinite(array)) for array in after.values())
    # 18 steps, of which so many were no update; and the scale went up again.
    assert skipped <= 18 - after["iteration"] < 18
    assert after["dynamic_scale"] < SETTINGS["params.scale"]
    losses = run.summary()["history"]["loss"]
    assert losses[1] < losses[0]


def test_f42_nan_weights_are_no_overflow(run):
    nan = {"name": "tests.faults.inject:NanAt", "args": {"at": 6}, "stateless": True}
    life = run.train(callbacks=[nan], train__precision="mixed_float16")
    assert life.code == 4, life.text()
    assert run.fired()
    assert "loss is nan at step 7" in life.text()
    assert run.committed() == [4]


def test_f42_gradients_that_are_never_numbers_are_no_overflow(run):
    settings = SETTINGS | {"params.has_gradient": False, "train.epochs": 10}
    run.settings = settings
    life = run.train(params__scale=2.0**-3)
    assert life.code == 4, life.text()
    assert "gradients are not finite at step 12, at a loss scale of 6e-05" in life.text()


def test_float16_without_a_scale_is_refused(run):
    life = run.train(recipe="tests.faults.scaled_recipe:unscaled", train__precision="mixed_float16")
    assert life.code == 2, life.text()
    assert "compile with auto_scale_loss=True, or wrap it in" in life.text()
