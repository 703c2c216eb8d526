"""Writes a package with a recipe of one's own: `trainer recipes new`.

What it writes lies in `template/`, as a package that is linted and type-checked with the rest: only
its name and the trainer's version are put in, in texts and in paths.
"""

import keyword
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import yaml

import trainer
from trainer.config.messages import shown_value
from trainer.errors import ConfigError
from trainer.recipes.catalog import list_recipes

_TEMPLATE = Path(__file__).with_name("template")
_NAME, _VERSION = "new_recipe", "trainer_version"


def write_package(name: str, folder: Path) -> list[Path]:
    """Write the package of a recipe `name` into a new or empty folder; returns the files.

    Raises ConfigError, for names and folders before anything is written.
    """
    check_name(name)
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(
                f"{folder} is there already, and not an empty folder: use another --dir"
            )
        return [_write(source, name, folder) for source in _sources()]
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror}") from error


def check_name(name: str) -> None:
    """ConfigError unless a recipe and its package may be called so."""
    if not re.fullmatch("[a-z]([a-z0-9_]*[a-z0-9])?", name):
        raise ConfigError(
            f"{shown_value(name)} is no name for a recipe and its Python package: use lower-case "
            f"letters, digits and underscores, as in '{_suggestion(name)}'"
        )
    if _is_word(name):
        raise ConfigError(
            f"'{name}' means something else in Python or in YAML: use another name, as in "
            f"'my_{name}'"
        )
    is_recipe = name in {entry.name for entry in list_recipes()}
    if is_recipe or _is_package(name):
        what = "recipe" if is_recipe else "Python module"
        raise ConfigError(
            f"there is a {what} '{name}' already: use another name, as in 'my_{name}'"
        )


def _suggestion(name: str) -> str:
    words = re.sub("[^a-z0-9]+", "_", name.lower()).strip("_") or "recipe"
    return words if words[0].isalpha() and not _is_word(words) else f"my_{words}"


def _is_word(name: str) -> bool:
    """Whether it is a word of Python, or in YAML no text: as the value of `recipe:`, it is true."""
    # Other readers than ours follow YAML 1.1, which has more such words.
    return keyword.iskeyword(name) or yaml.safe_load(name) != name


def _is_package(name: str) -> bool:
    # What has no file is a mere folder on the path of imports, as the one to be written to may be.
    spec = find_spec(name)
    # Python's own may be missing here, and be there on another machine.
    return name in sys.stdlib_module_names or (spec is not None and spec.origin is not None)


def _sources() -> list[Path]:
    found = sorted(_TEMPLATE.rglob("*"))
    return [path for path in found if path.is_file() and path.suffix != ".pyc"]


def _write(source: Path, name: str, folder: Path) -> Path:
    target = folder / str(source.relative_to(_TEMPLATE)).replace(_NAME, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    given = {_NAME: name, _VERSION: trainer.__version__}
    # At once: a name may hold the other placeholder.
    text = re.sub("|".join(given), lambda found: given[found[0]], source.read_text())
    target.write_text(text)
    return target
