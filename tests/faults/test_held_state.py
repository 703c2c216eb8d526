"""What a model holds beside its weights is saved, or the run is refused."""

import pytest

from tests.faults.harness import disturbed_and_calm, finish, signal_at

HELD = "tests.faults.held_recipe"
# The checkpoint of step 4 is there when the kill comes.
AT_ONCE = {"checkpoint.background": False}


@pytest.mark.parametrize(
    ("name", "replicas"),
    [
        ("counting", 1),
        pytest.param("second_optimizer", 1, marks=pytest.mark.long),
        pytest.param("second_optimizer", 2, marks=pytest.mark.long),
    ],
)
def test_other_variables_of_a_model_are_resumed(zygote, tmp_path, name, replicas):
    settings = AT_ONCE | {"recipe": f"{HELD}:{name}", "cluster.replicas": replicas}
    run, calm = disturbed_and_calm(zygote, tmp_path, settings)
    assert run.train(callbacks=[signal_at(6)]).code == -9
    assert run.committed() == [4]
    finish(run, calm)


@pytest.mark.parametrize("engine", ["loop", pytest.param("fit", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("name", "variable"), [("unbuilt_optimizer", "adam_"), ("counting_aside", "count")]
)
def test_variables_that_cannot_be_saved_are_refused_before_a_step(run, name, variable, engine):
    steps = {"train__engine": engine, "checkpoint__every_steps": None}
    life = run.train(recipe=f"{HELD}:{name}", **steps)
    assert life.code == 2, life.text()
    assert f"changes variables that no checkpoint would hold: {variable}" in life.text()
    assert run.committed() == []
    assert not life.events("epoch")


@pytest.mark.parametrize("name", ["plain", pytest.param("scheduled", marks=pytest.mark.long)])
def test_a_changed_learning_rate_is_used(run, name):
    """So small a rate leaves the weights as they were at step 4."""
    change_rate(run, name)
    losses = run.summary()["history"]["val_loss"]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.long
def test_a_changed_learning_rate_of_a_second_optimizer_is_used(run):
    change_rate(run, "second_optimizer")
    rates = {k: float(v) for k, v in run.last().arrays.items() if k.endswith("/learning_rate")}
    assert sorted(rates.values()) == [pytest.approx(1e-9), pytest.approx(0.01)]
    assert "others/0/" in min(rates, key=rates.__getitem__)


def change_rate(run, name):
    """Train a little, and go on with another rate to the end."""
    run.settings = AT_ONCE | {"recipe": f"{HELD}:{name}"}
    assert run.train(callbacks=[signal_at(6)]).code == -9
    changed = ("--allow-change", "params.learning_rate")
    life = run.train(*changed, params__learning_rate=1e-9)
    assert life.code == 0, life.text()
    assert life.events("restore")[0]["step"] == 4
