"""Which loop a recipe that classifies runs: the trainer's, or the one by hand."""

from collections.abc import Callable
from typing import Any


def chosen_loop(name: str) -> Callable[[Any], None] | None:
    """By `params.loop`: the body of `own_loop`, which needs Keras; None for the usual one."""
    if name == "usual":
        return None
    from trainer.recipes.own_loop import classify

    return classify
