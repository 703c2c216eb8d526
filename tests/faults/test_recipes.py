"""The recipes of the package: they reach what their YAML says, and are killed and resumed."""

import re

import pytest

from tests.faults.harness import Run, finish, signal_at
from trainer.recipes.catalog import recipe_facts

QUIET = {"metrics.enabled": False, "export.formats": []}
SHORT = QUIET | {"train.epochs": 2, "checkpoint.every_steps": 4}
TWO = {"cluster.replicas": 2}
# recipe, its settings
DISTURBED = [
    ("digits", TWO),
    pytest.param(
        "digits",
        TWO | {"params.loss": "class", "params.parity_weight": 0.5, "params.weigh_by_ink": True},
        marks=pytest.mark.long,
    ),
]
# recipe, its settings, the least of a metric of its test
VARIANTS = [
    ("digits", {"params.loss": "function"}, ("accuracy", 0.86)),
    ("digits", {"params.loss": "class", "params.parity_weight": 0.5}, ("parity_accuracy", 0.92)),
    (
        "digits",
        {"params.class_weights": [1, 1, 1, 1, 1, 2, 1, 1, 1, 1], "params.weigh_by_ink": True},
        ("accuracy", 0.86),
    ),
]
EXPECTED = ["digits", pytest.param("fashion_mnist", marks=pytest.mark.long)]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_expected_result_is_reached(zygote, tmp_path, name):
    run = Run(zygote, tmp_path, QUIET, packaged=name)
    life = run.start()
    assert life.wait(110) == 0, life.text()
    promised, found = re.findall(r"(\w+) (\d\.\d+)", recipe_facts(name).expected), run.summary()
    assert promised
    for metric, value in promised[:1]:
        assert found["test"][metric] == pytest.approx(float(value), abs=0.02)


@pytest.mark.parametrize(("name", "settings"), DISTURBED)
def test_it_is_killed_and_resumed(zygote, tmp_path, name, settings):
    calm, run = (
        Run(zygote, tmp_path / folder, SHORT | settings, packaged=name)
        for folder in ("calm", "disturbed")
    )
    for each in (calm, run):
        each.folder.mkdir()
    assert calm.train().code == 0, calm.lives[0].text()
    assert run.train(callbacks=[signal_at(6)]).code == -9, run.lives[0].text()
    finish(run, calm)


@pytest.mark.long
@pytest.mark.parametrize(("name", "settings", "least"), VARIANTS)
def test_its_variants_learn(zygote, tmp_path, name, settings, least):
    run = Run(zygote, tmp_path, QUIET | settings, packaged=name)
    life = run.train()
    assert life.code == 0, life.text()
    metric, value = least
    assert run.summary()["test"][metric] > value
