"""Runs of other kinds than the one that most fault tests disturb."""

import re

import pytest

from tests.faults.harness import disturbed_and_calm, finish, signal_at


def test_two_logical_cpus_are_killed_and_resumed(zygote, tmp_path):
    run, calm = disturbed_and_calm(zygote, tmp_path, {"cluster.replicas": 2})
    assert calm.lives[0].events("strategy")[0]["name"] == "MirroredStrategy"
    assert run.train(callbacks=[signal_at(6)]).code == -9
    finish(run, calm)


@pytest.mark.long
@pytest.mark.parametrize("replicas", [1, 2])
def test_averages_and_micro_batches_are_killed_and_resumed(zygote, tmp_path, replicas):
    settings = {
        "cluster.replicas": replicas,
        "train.accumulate_steps": 2,
        "recipe": "tests.faults.averaged_recipe:overwriting",
    }
    run, calm = disturbed_and_calm(zygote, tmp_path, settings)
    assert run.train(callbacks=[signal_at(6)]).code == -9
    finish(run, calm)


def test_other_micro_batches_are_another_run(halfway):
    life = halfway.train(train__accumulate_steps=2)
    assert life.code == 5, life.text()
    assert "train.accumulate_steps" in life.text()


def test_another_precision_is_another_run(run, undisturbed):
    life = run.train(train__precision="mixed_bfloat16")
    assert life.code == 0, life.text()
    assert run.sha256() != undisturbed.sha256()


def test_a_start_that_failed_does_not_bind_the_folder(run, undisturbed):
    life = run.train(callbacks=[{"name": "early_stoping"}])
    assert life.code == 2, life.text()
    run.lives.clear()
    life = run.train()
    assert life.code == 0, life.text()
    assert run.sha256() == undisturbed.sha256()


def test_a_train_step_as_in_the_keras_guides(run):
    life = run.train(recipe="tests.faults.recipe:guide")
    assert life.code == 0, life.text()
    assert set(run.summary()["train"]) == {"loss", "accuracy"}


def test_a_best_metric_that_is_none_ends_after_the_first_epoch(run, undisturbed):
    best = {"checkpoint__best": {"metric": "val_acuracy"}}
    life = run.train(**best)
    assert life.code == 2, life.text()
    assert "'val_acuracy' is no metric of an epoch: use one of accuracy" in life.text()
    finish(run, undisturbed, checkpoint__best={"metric": "val_accuracy"})
    assert run.lives[1].events("restore")[0]["step"] == 9


BUGS = {
    "nine_classes": (2, "step raised InvalidArgumentError: indices[", "= 9 is not in [0, 9)"),
    "no_spec": (2, "its data function must return a DataSpec", "not a function"),
    "no_callbacks": (2, "a str is among the callbacks", "keras.callbacks.Callback"),
    "no_params": (2, "are no subclass of trainer.recipes.base.Params", "<class 'object'>"),
    "broken": (2, "building its model raised RuntimeError: no such layer", "in _broken_model"),
    "broken_step": (2, "its model's step raised RuntimeError: no such step", "in train_step"),
    "broken_decode": (2, "decode, given the features image, label", "in _broken_decode"),
    "picky_decode": (3, "decode, given record 7 of fashion_mnist-train.tf", "an ankle boot"),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_in_a_recipe_is_named_with_its_place(run, name):
    code, said, place = BUGS[name]
    life = run.train(recipe=f"tests.faults.recipe:{name}")
    assert life.code == code, life.text()
    assert said in life.text()
    assert place in life.text()
    assert "Traceback" not in life.text()


# The first two calls are of one step and of two, whatever time they take.
@pytest.mark.parametrize(
    "at", [2, *(pytest.param(step, marks=pytest.mark.long) for step in (1, 5))]
)
def test_a_stop_inside_a_call_of_several_steps_is_refused(run, at):
    stop = {"name": "tests.faults.inject:HastyStopAt", "args": {"at": at}, "stateless": True}
    life = run.train(callbacks=[stop])
    assert life.code == 2, life.text()
    assert f"HastyStopAt ended training after step {at} of an epoch" in life.text()
    assert run.committed() == ([4] if at > 4 else [])
    stop["args"]["at"] -= sum(run.committed())
    life = run.train(callbacks=[stop], train__steps_per_call=1)
    assert life.code == 0, life.text()
    assert run.summary()["steps"] == at


@pytest.mark.parametrize("engine", ["loop", pytest.param("fit", marks=pytest.mark.long)])
def test_a_bug_in_a_callback_is_named_with_its_place(run, undisturbed, engine):
    bug = {"name": "tests.faults.inject:RaiseAt", "args": {"at": 10}, "stateless": True}
    steps = {"train__engine": engine, "checkpoint__every_steps": None}
    life = run.train(callbacks=[bug], **steps)
    assert run.fired()
    assert life.code == 1, life.text()
    assert "callback RaiseAt.on_train_batch_end raised ValueError: no such file" in life.text()
    assert re.search(r"\(/.*/tests/faults/inject.py:\d+, in _read\)", life.text())
    assert run.committed() == [9]
    finish(run, undisturbed)


def test_a_complete_run_says_that_a_change_has_no_effect(run):
    assert run.train(train__epochs=1).code == 0
    # The harness allows the change of callbacks.
    life = run.train(train__epochs=1, callbacks=[{"name": "terminate_on_nan"}])
    assert life.code == 0, life.text()
    (told,) = life.events("the run is complete: changes have no effect")
    assert told["keys"] == ["callbacks"]
