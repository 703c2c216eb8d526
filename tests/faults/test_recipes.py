"""The recipes of the package: they reach what their YAML says, and are killed and resumed."""

import re

import pytest

from tests.faults.harness import Run, finish, signal_at
from trainer.recipes.catalog import load_plain, recipe_facts

QUIET = {"metrics.enabled": False, "export.formats": []}
SHORT = QUIET | {"train.epochs": 2, "checkpoint.every_steps": 4}
TWO = {"cluster.replicas": 2}
SOME = {"data.train": "train[:600]", "data.validation": "train[600:700]"}
FEW_PHOTOS = {
    "params.image_size": 32, "params.alpha": 0.1,
    "data.train": "train[:86]", "data.validation": "train[86:120]", "data.test": "test[:30]",
}  # fmt: skip
# recipe, its settings
DISTURBED = [
    ("digits", TWO),
    ("mnist", {"params.style": "own_loss"}),
    ("tickets", {"params.form": "subclassed"} | SOME),
    ("beans", TWO | FEW_PHOTOS | {"params.phase": "head", "params.style": "own_parts"}),
    pytest.param("beans", TWO | FEW_PHOTOS | {"params.phase": "fine_tune"}, marks=pytest.mark.long),
    pytest.param("beans", FEW_PHOTOS, marks=pytest.mark.long),
    pytest.param("tickets", TWO | SOME | {"params.structure": "lists"}, marks=pytest.mark.long),
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
    ("tickets", {"params.structure": "lists"}, ("department_accuracy", 0.69)),
    (
        "tickets",
        {"params.form": "subclassed", "params.structure": "lists"},
        ("department_accuracy", 0.69),
    ),
    (
        "tickets",
        {"params.form": "subclassed", "cluster.replicas": 2},
        ("department_accuracy", 0.69),
    ),
    # Few photos, of which rounding decides some: no closer than that.
    ("beans", {}, ("accuracy", 0.6)),
    (
        "beans",
        {
            "params.style": "train_step",
            "params.weigh_by_contrast": True,
            "params.class_weights": [1, 1, 1, 1, 1, 1, 2, 1, 1, 1],
        },
        ("accuracy", 0.6),
    ),
]
EXPECTED = ["digits", "mnist", "tickets", pytest.param("fashion_mnist", marks=pytest.mark.long)]


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
    callbacks = [item.model_dump() for item in load_plain(name).callbacks]
    life = run.train(callbacks=[*callbacks, signal_at(6)])
    assert life.code == -9, life.text()
    finish(run, calm)


# Batches of 128, 128 and 44 records, the last of them shared unequally.
FEW = {"train.epochs": 1, "data.train": "train[:300]", "data.validation": "train[300:411]"}


@pytest.fixture(scope="module")
def trained(zygote, tmp_path_factory):
    """A function: settings -> a short, complete run of recipe mnist."""

    def train(**settings):
        run = Run(zygote, tmp_path_factory.mktemp("mnist"), QUIET | FEW, packaged="mnist")
        life = run.train(**settings)
        assert life.code == 0, life.text()
        return run

    return train


def test_all_styles_of_a_step_come_to_the_same_weights(trained):
    runs = [
        trained(params__style=style, params__units=16)
        for style in ("compile", "own_loss", "compute_loss")
    ]
    assert len({run.sha256() for run in runs}) == 1
    first, *others = [run.summary() for run in runs]
    for other in others:
        assert other["history"] == {
            name: pytest.approx(values, rel=1e-6) for name, values in first["history"].items()
        }


@pytest.mark.parametrize(
    "style", ["own_loss", pytest.param("compute_loss", marks=pytest.mark.long)]
)
def test_its_steps_on_two_cpus_are_those_on_one(trained, style):
    one, two = (
        trained(params__style=style, params__dropout=0.0, cluster__replicas=n).summary()
        for n in (1, 2)
    )
    assert two["train"] == pytest.approx(one["train"], rel=1e-4)
    assert two["test"] == pytest.approx(one["test"], rel=1e-4)


@pytest.mark.long
@pytest.mark.parametrize(("name", "settings", "least"), VARIANTS)
def test_its_variants_learn(zygote, tmp_path, name, settings, least):
    run = Run(zygote, tmp_path, QUIET | settings, packaged=name)
    life = run.start()
    assert life.wait(110) == 0, life.text()
    metric, value = least
    assert run.summary()["test"][metric] > value
