"""Data sets that come with the package, named `builtin:NAME` where a URL is expected."""

import importlib.resources
from difflib import get_close_matches
from pathlib import Path

from trainer.data.manifest import MANIFEST_FILE
from trainer.errors import ConfigError

SCHEME = "builtin:"


def builtin_names() -> tuple[str, ...]:
    """Names of all data sets in the package."""
    folder = _folder()
    if not folder.is_dir():
        return ()
    return tuple(sorted(f.name for f in folder.iterdir() if (f / MANIFEST_FILE).is_file()))


def embedded_url(name: str) -> str | None:
    """The folder of a data set in the package, or None if there is none of that name."""
    return str(_folder() / name) if name in builtin_names() else None


def resolve_data_url(url: str) -> str:
    """A storage URL: the package's folder for `builtin:NAME`, any other URL as it is.

    Raises:
        ConfigError: the package has no data set of that name.
    """
    if not url.startswith(SCHEME):
        return url
    name = url.removeprefix(SCHEME)
    found = embedded_url(name)
    if found is None:
        known = builtin_names()
        nearest = get_close_matches(name, known, n=1) or known
        raise ConfigError(
            f"no data set '{name}' comes with the trainer: use {SCHEME}{' or '.join(nearest)},"
            " or the folder that 'trainer data prepare' wrote"
        )
    return found


def _folder() -> Path:
    # A real folder: the records are read by byte range, which no zipped package could offer.
    return Path(str(importlib.resources.files("trainer.data"))) / "embedded"
