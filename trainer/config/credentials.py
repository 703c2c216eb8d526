"""Refusing credentials in a configuration, which is printed, logged and stored with the run."""

import math
import re
from collections.abc import Iterator
from typing import Any

from trainer.config.yaml_text import shown_key
from trainer.errors import ConfigError

# Not "token" at a name's end: pad_token and mask_token are what they say.
_KEY = re.compile(
    r"(.*[_-])?(password|passwd|passphrase|secret|credentials?|api[_-]?key|private[_-]?key|"
    r"access[_-]?key|secret[_-]?key|(api|auth|access|bearer|refresh|hf)[_-]?token)|token",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"://[^/\s]*@"  # user info of a URL
    r"|^[^/\s:@]+:[^/\s@]+@[^/\s]+"  # the same without a scheme
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|[?&](sig|signature|x-goog-signature|x-amz-signature|access_token|token|key)="
    r"|\b(gh[pousr]_|github_pat_|xox[abprs]-|AKIA|ASIA|AIza|ya29\.|hf_|sk-|glpat-)[\w-]{10,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.",  # a JSON web token
    re.IGNORECASE,
)
_WAY_OUT = (
    "take it out, because the configuration is printed and stored with the run; your own code "
    "can read it from the environment or from a mounted file"
)


def check_tree(tree: Any, source: str) -> None:
    """Refuse credentials, and numbers that are not finite, wherever they are in a configuration.

    Raises ConfigError, which names the key and never shows the value.
    """
    for key, value in _leaves(tree, ""):
        name = key.rpartition(".")[2].partition("[")[0]
        if _VALUE.search(name):
            raise ConfigError(f"{source}: a key looks like a credential (not shown): {_WAY_OUT}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{source}: '{shown_key(key)}' is {value}: write a finite number")
        if isinstance(value, str) and value and (_KEY.fullmatch(name) or looks_secret(value)):
            raise ConfigError(
                f"{source}: '{shown_key(key)}' looks like a credential (not shown): {_WAY_OUT}"
            )


def looks_secret(text: str) -> bool:
    """Whether a text has the form of a credential, or of a URL with one."""
    return bool(_VALUE.search(text))


def _leaves(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list | tuple):
        for number, value in enumerate(tree):
            yield from _leaves(value, f"{path}[{number}]")
    else:
        yield path, tree
