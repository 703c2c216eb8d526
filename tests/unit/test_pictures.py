"""Pictures of a run: what is drawn, when, where it goes, and what must not stop a training."""

import sys
from typing import Any

import keras
import numpy as np
import pytest
import structlog

from tests.small_run import run_info
from tests.small_storage import paths
from trainer.callbacks.state import CallbackStates
from trainer.errors import ConfigError, StorageError
from trainer.pictures.confusion_matrix import ConfusionMatrix
from trainer.pictures.loss_curves import LossCurves
from trainer.pictures.loss_history import LossHistory
from trainer.pictures.model_picture import ModelPicture
from trainer.pictures.predictions import Predictions
from trainer.storage import open_storage

PNG = b"\x89PNG"
rng = np.random.default_rng(0)


def begun(callback: Any, run: Any, *, counts: bool = True) -> Any:
    """The callback in its run, with a model whose steps count losses in its metric, or do not."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="kinds")])
    model.compile(loss="sparse_categorical_crossentropy")
    if counts:
        model.metrics[0].update_state(1.0)
    callback.set_run(run)
    callback.set_model(model)
    callback.on_train_begin()
    return callback


def resumed(callback: Any, fresh: Any) -> Any:
    """`fresh` with the state of `callback`, by way of a checkpoint."""
    states, arrays = CallbackStates([callback]).capture()
    CallbackStates([fresh]).restore(states, arrays)
    return fresh


# ---- loss_history ----------------------------------------------------------------------------

# 30 records in steps of 8: the last is of 6. What each step's own loss is, and what Keras logs.
STEPS = [2.0, 1.0, 4.0, 3.0]
SIZES = [8, 8, 8, 6]
MEANS = [np.dot(STEPS[: n + 1], SIZES[: n + 1]) / sum(SIZES[: n + 1]) for n in range(4)]


def epochs(history: Any, count: int, losses: Any, steps: int = 4) -> None:
    for epoch in range(count):
        history.on_epoch_begin(epoch)
        for batch, loss in enumerate(losses[:steps]):
            history.on_train_batch_end(batch, {"loss": loss})


@pytest.mark.parametrize(("counts", "logged"), [(True, MEANS), (False, STEPS)])
def test_each_step_has_its_own_loss(counts: bool, logged: Any) -> None:
    history = begun(LossHistory(), run_info(), counts=counts)
    epochs(history, 2, logged)
    assert history.get_state()["losses"]["points"][:, 1] == pytest.approx(STEPS * 2)


def test_a_history_goes_on_inside_of_an_epoch() -> None:
    whole, half = (begun(LossHistory(), run_info()) for _ in range(2))
    epochs(whole, 1, MEANS)
    epochs(half, 1, MEANS, steps=2)
    again = begun(LossHistory(), run_info(is_resumed=True))
    again.on_epoch_begin(0)
    resumed(half, again)
    for batch in (2, 3):
        again.on_train_batch_end(batch, {"loss": MEANS[batch]})
    assert again.render() == whole.render()


def test_a_history_of_nothing_is_drawn() -> None:
    assert begun(LossHistory(), run_info()).render()[:4] == PNG


# ---- loss_curves -----------------------------------------------------------------------------


def test_curves_are_the_same_after_a_checkpoint() -> None:
    whole, again = begun(LossCurves(), run_info()), None
    for epoch in range(4):
        logs = {"loss": 1 / (epoch + 1), "b/c": epoch} | ({"val_loss": 0.5} if epoch % 2 else {})
        for curves in filter(None, (whole, again)):
            curves.on_epoch_end(epoch, logs)
        if epoch == 1:
            again = resumed(whole, begun(LossCurves(), run_info()))
    assert again is not None
    assert again.render() == whole.render()
    assert again.get_state()["curves"]["val_loss"].tolist() == [[2, 0.5], [4, 0.5]]


def test_curves_with_numbers_that_are_none_are_drawn() -> None:
    curves = begun(LossCurves(), run_info())
    curves.on_epoch_end(0, {"loss": float("nan"), "a_$b$_c": float("inf")})
    assert curves.render()[:4] == PNG


# ---- when and where --------------------------------------------------------------------------


def test_a_picture_is_drawn_after_an_epoch_but_not_all_the_time_and_at_the_end() -> None:
    run = run_info()
    curves = begun(LossCurves(), run)
    for epoch in range(3):
        curves.on_epoch_end(epoch, {"loss": 1.0 / (epoch + 1)})
    early = run.storage.read("pictures/loss_curves.png")
    curves.on_train_end()
    assert run.storage.versions == {"pictures/loss_curves.png": 2}
    assert run.storage.read("pictures/loss_curves.png") != early


def test_every_epoch_if_that_is_wanted() -> None:
    run = run_info()
    curves = begun(LossCurves("mine.svg", every_seconds=0), run)
    for epoch in range(3):
        curves.on_epoch_end(epoch, {"loss": 1.0})
    assert run.storage.versions == {"pictures/mine.svg": 3}
    assert b"<svg" in run.storage.read("pictures/mine.svg")


@pytest.mark.parametrize("file", ["a.png", "a.svg"])
def test_the_same_is_drawn_in_the_same_bytes(file: str) -> None:
    once, again = (begun(LossCurves(file), run_info()) for _ in range(2))
    for curves in (once, again):
        curves.on_epoch_end(0, {"loss": 1.0})
    assert once.render() == again.render()


def test_workers_beside_the_chief_hold_the_same_and_write_nothing() -> None:
    run = run_info(writes=False)
    curves = begun(LossCurves(every_seconds=0), run)
    curves.on_epoch_end(0, {"loss": 1.0})
    curves.on_train_end()
    assert curves.get_state()["curves"]["loss"].tolist() == [[1, 1]]
    assert not paths(run.storage)


@pytest.mark.needs_gcs
def test_pictures_go_into_a_bucket(gcs: Any, proxy: Any) -> None:
    storage = open_storage("gs://bucket/run")
    begun(LossCurves(), run_info(storage=storage)).on_train_end()
    assert storage.read("pictures/loss_curves.png")[:4] == PNG


def test_a_picture_that_fails_is_a_warning() -> None:
    run = run_info()

    def refuse(path: str, data: Any) -> Any:
        raise StorageError("the disk is full")

    run.storage.write = refuse
    with structlog.testing.capture_logs() as said:
        begun(LossCurves(), run).on_train_end()
    assert [(event["log_level"], event["file"], event["reason"]) for event in said] == [
        ("warning", "loss_curves.png", "StorageError: the disk is full")
    ]


# ---- what is refused at the start ------------------------------------------------------------


@pytest.mark.parametrize("file", ["a.jpg", "../a.png", "a/b.png", ".png", ""])
def test_other_files_are_refused(file: str) -> None:
    with pytest.raises(ValueError, match=r"must be a plain name that ends in .png or .svg"):
        LossCurves(file)


@pytest.mark.parametrize(
    ("callback", "package"), [(LossCurves(), "matplotlib"), (ModelPicture(), "pydot")]
)
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, callback: Any, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    said = rf"needs {package}: pip install 'trainer-k8s\[pictures\]'"
    with pytest.raises(ConfigError, match=said):
        callback.set_run(run_info())
    callback.set_run(run_info(writes=False))


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match=r"Graphviz' program dot: install it .*graphviz"):
        ModelPicture().set_run(run_info())


# ---- confusion_matrix ------------------------------------------------------------------------

TRUE = np.array([0, 0, 1, 2, 2, 2])
GIVEN = np.eye(3)[[0, 1, 1, 2, 2, 0]]
VECTORS = np.zeros((6, 4))
RECORDS = [(VECTORS[:4], TRUE[:4], GIVEN[:4]), (VECTORS[4:], TRUE[4:], GIVEN[4:])]


def matrices(*batches: Any, **fields: Any) -> Any:
    matrix = ConfusionMatrix()
    matrix.set_run(run_info(batches, **fields))
    return {name: counts.tolist() for name, counts in matrix._matrices().items()}


def test_all_records_are_counted() -> None:
    assert matrices(*RECORDS) == {"output 1": [[1, 1, 0], [0, 1, 0], [1, 0, 2]]}


def test_one_column_of_logits_is_split_at_zero_though_most_look_like_probabilities() -> None:
    given = np.array([[0.2], [0.9], [0.3], [-4.0], [0.1], [7.0]])
    records = VECTORS, (TRUE > 0).astype("float32"), given
    assert matrices(*zip(*(np.split(part, 3) for part in records), strict=True)) == {
        "output 1": [[0, 2], [1, 3]]
    }
    assert matrices((VECTORS[:3], TRUE[:3], given[:3])) == {"output 1": [[1, 1], [1, 0]]}


def test_an_output_that_tells_no_class_for_some_record_is_left_out() -> None:
    targets = np.array([0, 1, 0, 1, 0.5, 1])
    batches = [
        (x, (y, t), [g, g[:, :1]])
        for (x, y, g), t in zip(RECORDS, [targets[:4], targets[4:]], strict=True)
    ]
    assert list(matrices(*batches, output_names=("kind", "size"))) == ["kind"]


def test_a_matrix_is_drawn_with_the_names_of_classes() -> None:
    names = {"label": ("cat", "dog", "owl")}
    matrix = ConfusionMatrix("matrix.svg")
    run = run_info(RECORDS, class_names=lambda: names)
    begun(matrix, run).on_train_end()
    assert b"owl" in run.storage.read("pictures/matrix.svg")


@pytest.mark.parametrize("num_classes", [2, 12, 40, 100])
def test_any_number_of_classes_is_drawn(num_classes: int) -> None:
    true = np.arange(num_classes)
    batch = np.zeros((num_classes, 4)), true, np.eye(num_classes)
    assert begun(ConfusionMatrix(), run_info([batch])).render()[:4] == PNG


def test_a_model_that_tells_no_classes_is_refused() -> None:
    with pytest.raises(ConfigError, match="ConfusionMatrix needs an output that tells classes"):
        ConfusionMatrix().set_run(run_info([(VECTORS, TRUE + 0.5, GIVEN)]))


def test_a_run_without_validation_must_name_a_split() -> None:
    with pytest.raises(ConfigError, match=r"set data\.validation, or name one in its args"):
        ConfusionMatrix().set_run(run_info(RECORDS, validation=None))
    ConfusionMatrix(split="test").set_run(run_info(RECORDS, validation=None))


# ---- predictions -----------------------------------------------------------------------------

IMAGES = rng.random((6, 8, 8, 1))


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        IMAGES[..., 0],
        IMAGES * 255,
        IMAGES - 0.5,
        rng.integers(0, 256, (6, 5, 7, 3), "uint8"),
    ],
    ids=["grey", "flat", "bytes", "centred", "colours"],
)
def test_images_of_all_ranges_are_drawn(images: Any) -> None:
    assert begun(Predictions(), run_info([(images, TRUE, GIVEN)])).render()[:4] == PNG


def shown(callback: Predictions, batches: Any) -> list[tuple[int, int]]:
    """(true class, predicted class) of the samples."""
    callback.set_run(run_info(batches))
    return [(sample.true, sample.predicted) for sample in callback._samples()[0]]


def test_samples_are_from_all_over_the_split() -> None:
    batches = [(IMAGES[:4], TRUE[:4], GIVEN[:4]), (IMAGES[4:], TRUE[4:], GIVEN[4:])]
    assert shown(Predictions(count=3), batches) == [(0, 0), (1, 1), (2, 0)]
    assert shown(Predictions(), batches) == [(0, 0), (0, 1), (1, 1), (2, 2), (2, 2), (2, 0)]


def test_the_surest_mistakes_come_first() -> None:
    given = np.array([[0.4, 0.6, 0], [0, 0.9, 0.1], [0, 1, 0], [0.8, 0, 0.2], [0, 0, 1], [0, 0, 1]])
    batches = [(IMAGES[:4], TRUE[:4], given[:4]), (IMAGES[4:], TRUE[4:], given[4:])]
    assert shown(Predictions(count=2, mistakes=True), batches) == [(0, 1), (2, 0)]


@pytest.mark.parametrize("mistakes", [False, True])
def test_one_column_is_the_second_of_two_classes_whenever_it_tells_that_it_is_a_logit(
    mistakes: bool,
) -> None:
    true = (TRUE > 0).astype("float32")
    logits = np.array([[0.2], [0.9], [0.3], [-4.0], [0.1], [7.0]])  # of which the first four do not
    batches = [(IMAGES[i : i + 3], true[i : i + 3], logits[i : i + 3]) for i in (0, 3)]
    found = [(0, 1), (0, 1), (1, 1), (1, 0), (1, 1), (1, 1)]
    surest = [(1, 0), (0, 1), (0, 1)]
    assert shown(Predictions(mistakes=mistakes), batches) == (surest if mistakes else found)
    # A sigmoid's say the same of a half.
    likely = [(x, y, 1 / (1 + np.exp(-given))) for x, y, given in batches]
    assert shown(Predictions(mistakes=mistakes), likely) == (surest if mistakes else found)


def test_no_mistakes_are_drawn() -> None:
    batches = [(IMAGES, TRUE, np.eye(3)[TRUE])]
    assert begun(Predictions(mistakes=True), run_info(batches)).render()[:4] == PNG


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (VECTORS, r"a record's input is \[4\]"),
        ((IMAGES, IMAGES), r"is \[8, 8, 1\] and \[8, 8, 1\]"),
    ],
)
def test_what_is_no_image_is_refused(x: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Predictions().set_run(run_info([(x, TRUE, GIVEN)]))


@pytest.mark.parametrize("count", [0, 1000])
def test_so_many_images_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="must be from 1 to 100"):
        Predictions(count=count)


# ---- model_picture ---------------------------------------------------------------------------


@pytest.mark.needs_graphviz
def test_a_model_is_drawn_when_training_begins() -> None:
    run = run_info()
    begun(ModelPicture("model.svg", rankdir="LR"), run)
    drawn = run.storage.read("pictures/model.svg")
    assert b"kinds" in drawn
    assert b"(None, 3)" in drawn
    begun(ModelPicture(), run)
    assert run.storage.read("pictures/model.png")[:4] == PNG


def test_an_option_that_keras_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no option show_shape of keras\.utils"):
        ModelPicture(show_shape=True)
