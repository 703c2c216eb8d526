"""Training ends at the first loss that is no number."""

import keras
import numpy as np
import pytest

from tests.small_training import NoBoundary, Run, compiled, cpus, dataset_of
from trainer.callbacks.non_finite import NonFiniteCallback
from trainer.errors import NonFiniteError


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf"), np.float32("nan")])
def test_f41_a_loss_that_is_no_number_is_refused_at_its_step(loss: float) -> None:
    callback = NonFiniteCallback(steps_per_epoch=10)
    callback.on_epoch_begin(2)
    with pytest.raises(NonFiniteError, match=r"loss is .* at step 24: lower the learning rate"):
        callback.on_train_batch_end(3, {"loss": loss})


def test_other_logs_are_passed_over() -> None:
    callback = NonFiniteCallback(steps_per_epoch=10)
    fine = [None, {}, {"loss": 1e30}, {"accuracy": float("nan"), "loss": 0.5}]
    for batch, logs in enumerate(fine):
        callback.on_train_batch_end(batch, logs)
    with pytest.raises(NonFiniteError, match="at step 5:"):
        callback.on_train_batch_end(4, {"loss": float("nan")})


class Saves(NoBoundary):
    """Counts the chances to save."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def between_calls(self, position) -> None:
        self.steps.append(position.step)

    after_epoch = between_calls


def test_f41_nothing_is_saved_from_the_step_on(vectors: str) -> None:
    boundary = Saves()
    run = Run(dataset_of(vectors), epochs=5, boundary=boundary)
    model = compiled(cpus(), optimizer=lambda: keras.optimizers.SGD(1e38))
    with pytest.raises(NonFiniteError) as caught:
        run.loop(model, cpus(), [NonFiniteCallback(steps_per_epoch=4)])
    step = int(str(caught.value).split("step ")[1].split(":")[0])
    assert max(boundary.steps, default=step) < step
