"""What a recipe is: data, model and parameters of one kind of training.

Parameters load without Keras, so that a configuration can be checked anywhere; the functions
import what they need when they are called.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.config import Section
from trainer.data.spec import DataSpec

if TYPE_CHECKING:  # it brings numpy, which an agent is without
    from trainer.data.facts import Facts


class Params(Section):
    """Parameters of a recipe: a subclass declares each as identity, changeable or free."""


@dataclass(frozen=True)
class Recipe:
    """One kind of training.

    params: the class of its parameters.
    data: parameters -> how a record becomes an example.
    model: parameters -> a Keras model that can train: compiled, or a TrainStepModel that was
    equipped. It is called under the strategy's scope, after seeding.
    callbacks: parameters -> Keras callbacks that belong to the recipe.
    begin: parameters and the built model -> what a run does once, at step 0: weights from
    elsewhere, say. It is not called where a checkpoint is restored, which overrides them all.
    loop: parameters -> a body for `trainer.loop.TrainLoop` in place of the usual one, or None.
    fit_to: (parameters, what the data set tells of itself) -> what `data` and `model` get in place
    of the parameters; ConfigError where they do not belong together.
    """

    params: type[Params]
    data: Callable[[Any], DataSpec]
    model: Callable[[Any], Any]
    callbacks: Callable[[Any], Sequence[Any]] = lambda _params: ()
    begin: Callable[[Any, Any], None] = lambda _params, _model: None
    loop: Callable[[Any], Callable[[Any], None] | None] = lambda _params: None
    fit_to: "Callable[[Any, Facts], Any] | None" = None
