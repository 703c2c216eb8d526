"""What recipe mnist brings of its own: a metric, and the steps' bookkeeping."""

import keras
import numpy as np
import pytest

from trainer.recipes.mnist import MnistParams
from trainer.recipes.mnist_model import RootMeanSquaredError, build

LABELS = np.array([0, 1, 2])
EVEN = np.full((3, 4), 0.25, "float32")  # squares of each record: 0.75^2 + 3 x 0.25^2 = 0.75
RIGHT = np.eye(3, 4, dtype="float32")
STYLES = ["compile", "own_loss", "compute_loss"]


def test_the_metric_takes_the_root_of_the_mean_over_all_records():
    metric = RootMeanSquaredError()
    assert float(metric.result()) == 0
    metric.update_state(LABELS, EVEN)
    assert float(metric.result()) == pytest.approx(0.75**0.5)
    metric.update_state(LABELS[:1, None], RIGHT[:1])
    assert float(metric.result()) == pytest.approx((3 * 0.75 / 4) ** 0.5)


def test_the_metric_honours_weights_and_starts_anew():
    metric = RootMeanSquaredError()
    both = np.concatenate([EVEN[:1], RIGHT[1:2]])
    metric.update_state(LABELS[:2], both, sample_weight=[1.0, 3.0])
    assert float(metric.result()) == pytest.approx((0.75 / 4) ** 0.5)
    metric.reset_state()
    assert float(metric.result()) == 0


@pytest.mark.parametrize(
    "style",
    [pytest.param(s, marks=() if s == "compile" else pytest.mark.long) for s in STYLES],
)
def test_a_step_reports_the_mean_over_all_records_of_an_epoch(style):
    model = build(MnistParams(style=style, units=4, dropout=0.0))
    rng = np.random.default_rng(0)
    images, labels = rng.random((30, 28, 28, 1), np.float32), rng.integers(0, 10, 30)
    logs = model.evaluate(images, labels, batch_size=20, verbose=0, return_dict=True)
    predicted = model.predict(images, verbose=0)
    expected = -np.log(predicted[np.arange(30), labels]).mean()
    assert set(logs) == {"loss", "accuracy", "rmse"}
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    assert model.fit(images, labels, batch_size=20, verbose=0).history["loss"][0] > 0


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_model_comes_back_from_its_file(style, tmp_path):
    model = build(MnistParams(style=style, units=4))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    images = np.ones((2, 28, 28, 1), "float32")
    assert type(again).__name__ == type(model).__name__
    assert np.array_equal(again(images), model(images))
