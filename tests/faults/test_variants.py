"""Runs of other kinds than the one that most fault tests disturb."""

from tests.faults.harness import disturbed_and_calm, finish, signal_at


def test_two_logical_cpus_are_killed_and_resumed(zygote, tmp_path):
    run, calm = disturbed_and_calm(zygote, tmp_path, {"cluster.replicas": 2})
    assert calm.lives[0].events("strategy")[0]["name"] == "MirroredStrategy"
    assert run.train(callbacks=[signal_at(6)]).code == -9
    finish(run, calm)


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


def test_a_best_metric_that_is_none_ends_after_the_first_epoch(run):
    best = {"checkpoint__best": {"metric": "val_acuracy"}}
    life = run.train(**best)
    assert life.code == 2, life.text()
    assert "'val_acuracy' is no metric of an epoch: use one of accuracy" in life.text()


def test_a_recipe_that_cannot_build_its_model_is_named(run):
    life = run.train(recipe="tests.faults.recipe:broken")
    assert life.code == 2, life.text()
    assert "recipe tests.faults.recipe:broken: building its model failed" in life.text()
