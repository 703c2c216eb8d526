"""A new run that starts with some layers of another: grown, frozen, killed, in a group."""

import numpy as np
import pytest

from tests.faults.groups import Agents
from tests.faults.harness import Run, finish, signal_at
from trainer.recipes.catalog import load_plain

SHORT = {
    "metrics.enabled": False,
    "export.formats": [],
    "data.train": "train[:600]",
    "data.validation": "train[600:700]",
    "train.epochs": 2,
    "checkpoint.every_steps": 4,
}  # fmt: skip
GROWN = {
    "train.start_layers": "shared",
    "params.difficulty": True,
    "params.frozen": True,
    "params.learning_rate": 0.02,
    "train.seed": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def origins(zygote, tmp_path_factory):
    """A function: form -> a complete run of recipe tickets, made once."""
    made = {}

    def origin(form):
        if form not in made:
            settings = SHORT | {"params.form": form}
            made[form] = Run(zygote, tmp_path_factory.mktemp(form), settings, packaged="tickets")
            assert made[form].train().code == 0, made[form].lives[0].text()
        return made[form]

    return origin


@pytest.fixture
def grown(zygote, tmp_path, origins):
    """A function: form and name -> a run that will start with what the first has learned."""

    def make(form, name="grown", **settings):
        first = origins(form)
        more = {"params.form": form, "train.start_from": str(first.dir)}
        run = Run(zygote, tmp_path / name, SHORT | GROWN | more | settings, packaged="tickets")
        run.folder.mkdir()
        return run

    return make


def weights(run):
    """The arrays of a run's model by path, without seeds."""
    arrays = run.last().arrays
    named = {n.split("/", 2)[2]: a for n, a in arrays.items() if n.startswith("model/")}
    return {path: array for path, array in named.items() if "seed" not in path}


@pytest.mark.long
@pytest.mark.parametrize("form", ["functional", "subclassed"])
def test_what_is_frozen_stays_to_the_bit_and_the_new_output_learns(origins, grown, form):
    run = grown(form)
    life = run.train()
    assert life.code == 0, life.text()
    (told,) = life.events("warm start")
    assert (told["num_taken"], told["num_fresh"], told["num_unused"]) == (6, 2, 0)
    assert [path.rpartition("/")[2] for path in told["fresh"]] == ["kernel", "bias"]
    before, after = weights(origins(form)), weights(run)
    assert len(before) == 6
    assert all(np.array_equal(after[path], array) for path, array in before.items())
    # Each of the three is a third of the entries.
    assert run.summary()["history"]["val_difficulty_accuracy"][-1] > 0.5


@pytest.mark.long
def test_a_killed_one_goes_on_to_the_same_result(grown):
    calm, run = grown("functional", "calm"), grown("functional", "killed")
    assert calm.train().code == 0, calm.lives[0].text()
    callbacks = [item.model_dump() for item in load_plain("tickets").callbacks]
    for at in (2, 6):
        life = run.train(callbacks=[*callbacks, signal_at(at)])
        assert life.code == -9, life.text()
    finish(run, calm)


def test_without_shared_another_model_is_refused_with_the_way_out(grown):
    run = grown("functional", **{"train.start_layers": "all"})
    life = run.train()
    assert life.code == 5, life.text()
    assert "difficulty/kernel: checkpoint absent" in life.text()
    assert "train.start_layers=shared" in life.text()


def test_nothing_in_common_is_refused(zygote, tmp_path, origins):
    warm = {"train.start_from": str(origins("functional").dir), "train.start_layers": "shared"}
    life = Run(zygote, tmp_path, warm).train()
    assert life.code == 5, life.text()
    assert "finds no array of the checkpoint in the model" in life.text()


@pytest.mark.long
@pytest.mark.parametrize("settings", [{}, {"cluster.replicas": 2}], ids=["workers", "replicas"])
def test_it_is_the_same_in_a_group(origins, grown, settings):
    run = grown("subclassed", **settings)
    if settings:
        assert run.train().code == 0, run.lives[0].text()
    else:
        Agents(run).train()
    before, after = weights(origins("subclassed")), weights(run)
    assert all(np.array_equal(after[path], array) for path, array in before.items())
    assert run.summary()["history"]["val_difficulty_accuracy"][-1] > 0.5
