"""`train.gradient_norm`: what each step logs is the length of its gradients."""

from typing import Any

import keras
import numpy as np
import pytest

from tests.small_training import Run, compiled, cpus, dataset_of
from trainer.config import RunConfig
from trainer.config.load import validate
from trainer.errors import ConfigError


class Noted(keras.callbacks.Callback):
    """The norms that were logged, and how far each step has moved the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[float] = []
        self.moved: list[float] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self._before = self._weights()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now = self._weights()
        self.told.append(logs["gradient_norm"])
        self.moved.append(float(np.linalg.norm(now - self._before)))
        self._before = now

    def _weights(self) -> Any:
        return np.concatenate([np.ravel(w) for w in self.model.trainable_variables])


def noted(url: str, replicas: int = 1, parts: int = 1, clip: float | None = None) -> Noted:
    run = Run(dataset_of(url), steps_per_call=1, micro_batches=parts, gradient_norm=True)
    optimizer = lambda: keras.optimizers.SGD(1.0, global_clipnorm=clip)  # noqa: E731
    model, seen = compiled(cpus(replicas), optimizer=optimizer), Noted()
    run.loop(model, cpus(replicas), [seen])
    return seen


@pytest.mark.parametrize(
    ("replicas", "parts"),
    [(1, 1), (2, 2), *(pytest.param(*pair, marks=pytest.mark.long) for pair in ((2, 1), (1, 2)))],
)
def test_a_step_of_plain_descent_is_as_long_as_its_gradients(
    vectors: str, replicas: int, parts: int
) -> None:
    seen = noted(vectors, replicas, parts)
    assert len(seen.told) > 4
    np.testing.assert_allclose(seen.told, seen.moved, rtol=1e-4)


def test_it_is_measured_before_clipping(vectors: str) -> None:
    free, clipped = noted(vectors), noted(vectors, clip=0.01)
    np.testing.assert_allclose(clipped.moved, 0.01, rtol=1e-3)
    assert clipped.told[0] == pytest.approx(free.told[0], rel=1e-5)


def test_scaled_losses_do_not_show_in_it(vectors: str) -> None:
    plain, scaled = (
        Run(dataset_of(vectors), epochs=1, gradient_norm=True) for _ in range(2)
    )  # fmt: skip
    for run, wrap in ((plain, lambda it: it), (scaled, keras.optimizers.LossScaleOptimizer)):
        model = compiled(cpus(), optimizer=lambda wrap=wrap: wrap(keras.optimizers.SGD(0.1)))
        run.loop(model, cpus())
    norms = [
        [n for call in run.calls for n in call.logs["gradient_norm"]] for run in (plain, scaled)
    ]
    np.testing.assert_allclose(*norms, rtol=1e-4)


def test_without_it_nothing_is_logged(vectors: str) -> None:
    run = Run(dataset_of(vectors), epochs=1)
    run.loop(compiled(cpus()), cpus())
    assert all("gradient_norm" not in call.logs for call in run.calls)


def test_fit_is_refused() -> None:
    tree = {
        "recipe": "mnist", "run": {"dir": "runs/a"}, "data": {"url": "data", "batch_size": 8},
        "train": {"epochs": 1, "engine": "fit", "gradient_norm": True},
    }  # fmt: skip
    with pytest.raises(ConfigError, match="gradient_norm: use the loop engine"):
        validate(RunConfig, tree, source="a.yaml")
