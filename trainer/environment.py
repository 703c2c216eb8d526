"""Environment variables of ours: which there are, and none that means nothing.

Imports nothing heavy, because every command checks the environment before anything else.
"""

import difflib
import os
from collections.abc import Mapping

from trainer.errors import ConfigError

KNOWN_VARIABLES = {
    "TRAINER_DEBUG": "print a traceback when a command fails",
}


def check_environment(environ: Mapping[str, str] = os.environ) -> None:
    """Refuse a TRAINER_… variable that means nothing: most likely it is misspelt.

    Values are never shown. Raises ConfigError.
    """
    for name in sorted(environ):
        if name.startswith("TRAINER_") and name not in KNOWN_VARIABLES:
            near = difflib.get_close_matches(name, KNOWN_VARIABLES, n=1, cutoff=0.75)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(KNOWN_VARIABLES)}"
            raise ConfigError(f"unknown environment variable {name}: unset it, or {hint}")
