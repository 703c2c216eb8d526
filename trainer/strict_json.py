"""JSON that every reader takes: a number that is not finite becomes null."""

import json
import math
from typing import Any


def dumps(tree: Any, **options: Any) -> str:
    """As `json.dumps`."""
    return json.dumps(_finite(tree), allow_nan=False, **options)


def _finite(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
