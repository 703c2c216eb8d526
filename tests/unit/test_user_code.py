"""An error of a user's own code is told with its place and the callback it came through."""

import keras
import pytest
import tensorflow as tf

from trainer.errors import ConfigError
from trainer.user_code import describe, find_callback, find_place, user_code


def bug(*_args: object, **_more: object) -> None:
    raise ValueError("no such file")


@pytest.mark.parametrize("hook", ["on_epoch_end", "on_train_batch_end"])
def test_a_plain_function_as_a_hook(hook: str) -> None:
    callbacks = keras.callbacks.CallbackList([keras.callbacks.LambdaCallback(**{hook: bug})])
    with pytest.raises(ValueError, match="no such file") as raised:
        getattr(callbacks, hook)(0, {})
    assert find_callback(raised.value) == "callback LambdaCallback"
    assert find_place(raised.value) == f"{__file__}:{bug.__code__.co_firstlineno + 1}, in bug"


def test_an_error_of_a_librarys_own_has_no_place_of_the_users() -> None:
    schedule = keras.callbacks.LearningRateScheduler(None)
    schedule.set_model(keras.Model())
    # Caught where it was raised, with no frame of this file on the way.
    error = None
    try:
        schedule.on_epoch_begin(0)
    except Exception as found:
        error = found.with_traceback(found.__traceback__.tb_next)
    assert find_place(error) is None
    assert find_callback(error) == "callback LearningRateScheduler.on_epoch_begin"


def test_an_operation_that_fails_is_told_by_its_reason_alone() -> None:
    @tf.function
    def picked(rows: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.UnsortedSegmentSum(data=rows, segment_ids=rows, num_segments=2)

    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        picked(tf.constant([0, 7]))
    message = "Graph execution error:\n\nDetected at node x defined at (most recent call last):\n"
    message += f'  File "{__file__}", line 1, in bug\n\n{raised.value.message}'
    error = tf.errors.InvalidArgumentError(None, None, message)
    said = describe(error)
    assert said.startswith("InvalidArgumentError: segment_ids[1] = 7 is out of range [0, 2)")
    assert said.endswith(", in picked)")


def test_what_was_traced_is_told_by_its_own_message() -> None:
    with pytest.raises(ConfigError) as raised, user_code("the step"):
        tf.function(bug)()
    place = f"{__file__}:{bug.__code__.co_firstlineno + 1}, in bug"
    assert str(raised.value) == f"the step raised ValueError: no such file ({place})"
    assert isinstance(raised.value.__cause__, ValueError)
    assert describe(raised.value.__cause__) in str(raised.value)


@pytest.mark.parametrize(
    "kind", [MemoryError, tf.errors.ResourceExhaustedError, tf.errors.UnavailableError]
)
def test_want_of_memory_is_no_fault_of_the_code(kind: type) -> None:
    error = kind() if kind is MemoryError else kind(None, None, "OOM")
    with pytest.raises(kind), user_code("the step"):
        raise error
