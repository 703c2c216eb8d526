"""Steps for backends that TensorFlow does not compile: which are told to be for another one."""

from typing import Any

import pytest
import tensorflow as tf

from trainer.backends.host_steps import step_of
from trainer.errors import ConfigError


def gradients(variables: Any) -> Any:
    with tf.GradientTape() as tape:
        return tape.gradient(0.0, variables)


def again(data: Any) -> Any:
    return again(data)


class Model:
    """No more of one than its steps."""

    def plain(self, data: Any) -> Any:
        return again(data)

    def with_default(self, data: Any, training: bool = True) -> Any:
        return self.plain((data, training))

    def tape(self, data: Any) -> Any:
        with tf.GradientTape():
            return data

    def by_function(self, data: Any) -> Any:
        return gradients(data)

    def by_method(self, data: Any) -> Any:
        return self.tape(data)

    def by_inner(self, data: Any) -> Any:
        return [self.by_method(one) for one in data]

    def two(self, state: Any, data: Any) -> Any:
        return state, data


@pytest.mark.parametrize("name", ["plain", "with_default"])
def test_a_step_may_have_more_arguments_that_have_defaults(name: str) -> None:
    model = Model()
    assert step_of(model, name, ("data",)) == getattr(model, name)


@pytest.mark.parametrize("name", ["tape", "by_function", "by_method", "by_inner"])
def test_a_tape_is_found_wherever_the_step_opens_it(name: str) -> None:
    with pytest.raises(ConfigError, match=r"it uses tf\.GradientTape"):
        step_of(Model(), name, ("data",))


def test_a_step_of_an_own_loop_is_told_the_usual_one() -> None:
    with pytest.raises(ConfigError, match=r"of the recipe's own loop .*params\.loop=usual"):
        step_of(Model(), gradients, ("variables",))


def test_a_tape_is_found_in_a_function_around_the_step() -> None:
    function = gradients

    def step(data: Any) -> Any:
        return function(data)

    with pytest.raises(ConfigError, match=r"it uses tf\.GradientTape"):
        step_of(Model(), step, ("data",))


@pytest.mark.parametrize(("name", "arguments"), [("two", ("data",)), ("plain", ("state", "data"))])
def test_other_arguments_are_refused(name: str, arguments: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=rf"it is not {name}\({', '.join(arguments)}\)"):
        step_of(Model(), name, arguments)
