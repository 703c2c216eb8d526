"""The configuration of a script's run: where it lives and how it trains, not what."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config import RunConfig, apply_overrides, read_tree, validate
from trainer.config.credentials import check_tree
from trainer.config.models.run import SCRIPT
from trainer.errors import ConfigError

# What `trainer.fit` is told by its arguments, and where they are. The chart refuses it, too.
OF_FIT = {
    "recipe": "the script says what is trained",
    "params": "give them to the script, as its arguments",
    "data": "give data to trainer.fit",
    "export": "save the model in the script, with model.save or model.export",
    "train.epochs": "give epochs to trainer.fit",
    "train.engine": "trainer.fit has one",
    "train.validate_every": "give validation_freq to trainer.fit",
    "train.start_from": "load weights in the script, with model.load_weights",
    "train.start_layers": "load weights in the script, with model.load_weights",
}


@dataclass(frozen=True)
class Script:
    """A file of Python and its arguments, as `python FILE ARGUMENTS` takes them."""

    path: Path
    arguments: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Of the file and its arguments: a run that ended with others has more to do."""
        parts = [self.read(), *(argument.encode() for argument in self.arguments)]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    def read(self) -> bytes:
        """The file. Raises ConfigError when it cannot be read."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read script {self.path}: {error.strerror}") from None


def load_script_config(
    file: str | None, overrides: Sequence[str] = (), *, name: str = SCRIPT
) -> RunConfig:
    """The configuration in a YAML file, or the defaults, with overrides.

    name: of the folder below runs/ where the run lives by default. Raises ConfigError, also for
    keys that are arguments of `trainer.fit`.
    """
    source = file or "--set"
    tree = apply_overrides(read_tree(Path(file)) if file else {}, overrides)
    check_tree(tree, source)
    for key, instead in OF_FIT.items():
        section, _, rest = key.partition(".")
        if section in tree and (not rest or rest in (tree[section] or {})):
            raise ConfigError(f"{source}: {key} is no key of a script's run: {instead}")
    run = {"dir": f"runs/{name}"} | (tree.get("run") or {})
    said: dict[str, Any] = {
        "recipe": SCRIPT,
        "data": {"url": SCRIPT, "batch_size": 1, "streams": 1},
        "train": {"epochs": 1} | (tree.get("train") or {}),
        "export": {"formats": []},
        "run": run,
    }
    return validate(RunConfig, tree | said, source=source)
