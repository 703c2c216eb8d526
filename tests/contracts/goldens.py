"""What users rely on, as text: `make goldens` writes it anew, a test compares.

A difference is no fault by itself: it must be meant, and be in CHANGELOG.md.
"""

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trainer
from scripts.generate_docs import command_help, exit_codes
from trainer.config.schema import json_schema
from trainer.data.spec import DataSpec
from trainer.metrics import describe
from trainer.recipes.base import Recipe

PYTHON = {
    **{
        f"trainer.{name}": getattr(trainer, name)
        for name in ("close", "evaluate", "fit", "is_chief", "predict", "setup")
    },
    "trainer.data.spec.DataSpec": DataSpec,
    "trainer.recipes.base.Recipe": Recipe,
}
FOLDER = Path(__file__).with_name("golden")


def goldens() -> dict[str, str]:
    """Text by file name."""
    return {
        "commands.txt": "\n\n".join(f"$ {path} --help\n{text}" for path, text in command_help())
        + "\n",
        "config.schema.json": json.dumps(json_schema(), indent=2) + "\n",
        "metrics.txt": "".join(
            f"{m.name} {m.kind} {','.join(m.labels)}".rstrip() + "\n" for m in describe()
        ),
        "exit_codes.txt": exit_codes(),
        "python.txt": "".join(f"{name}{bare(what)}\n" for name, what in PYTHON.items()),
    }


def bare(what: Callable[..., Any]) -> str:
    """Parameters and their defaults, without types, which Pythons write differently."""
    found = inspect.signature(what)
    parameters = [one.replace(annotation=one.empty) for one in found.parameters.values()]
    plain = found.replace(parameters=parameters, return_annotation=found.empty)
    return re.sub(r"<function \S+ at 0x[0-9a-f]+>", "...", str(plain))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in goldens().items():
        (FOLDER / name).write_text(text)
