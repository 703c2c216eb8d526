"""In place of a recipe: a user's script, which says by itself what is trained, and on what."""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from trainer.errors import ConfigError
from trainer.recipes.base import Params, Recipe


def script_recipe(callbacks: Callable[[Any], Sequence[Any]] = lambda _params: ()) -> Recipe:
    """A recipe of callbacks alone; ConfigError when asked for more."""
    return Recipe(params=Params, data=_refuse, model=_refuse, callbacks=callbacks)


def _refuse(_params: Any) -> NoReturn:
    raise ConfigError(
        "this is the run of a script, which makes its data and its model: train it by "
        "`trainer run SCRIPT`, and evaluate or export the model in the script"
    )
