"""The small net with a step that fails at a set place: its loss is no number, or it raises."""

from dataclasses import replace
from typing import Any

from tests.faults import recipe as small
from tests.faults.inject import note
from trainer.config import changeable, identity
from trainer.recipes.base import Recipe


class FailingParams(small.SmallParams):
    """Parameters of the small net, and where it fails."""

    fails_at: int = identity(15, help="Global step that fails.", ge=1)
    raises: bool = identity(False, help="Raise, instead of a loss that is no number.")
    is_mended: bool = changeable(False, help="Do not fail.")


def _model(params: FailingParams) -> Any:
    import keras
    import tensorflow as tf

    from trainer.models.train_step import TrainStepModel

    class Failing(TrainStepModel):
        def train_step(self, data: Any) -> Any:
            step = self.optimizer.iterations + 1
            if tf.executing_eagerly():
                note(f"line by line {int(step)}")
            logs = super().train_step(data)
            fails = tf.logical_and(tf.equal(step, params.fails_at), not params.is_mended)
            if params.raises:
                tf.debugging.assert_equal(fails, False, "a bad step")
            logs["loss"] = tf.where(fails, float("nan"), logs["loss"])
            return logs

    plain = small._model(params)
    model = Failing(plain.input, plain.output)
    optimizer = keras.optimizers.Adam(params.learning_rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


recipe: Recipe = replace(small.recipe, params=FailingParams, model=_model)
