"""Folders and URLs as a configuration may name them. Nothing here looks whether they exist."""

import re
from urllib.parse import unquote

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):(.*)", re.DOTALL)
_SCHEMES = ("gs", "file", "builtin")
_WAY_OUT = "use gs://BUCKET/PREFIX or a local folder"


def check_location(value: str) -> str:
    """Refuse a path or URL that leaves its root, hides a secret or has a strange scheme.

    Nothing of a refused URL is shown but a scheme: the rest may be private.
    """
    if not value.isprintable() or not value.strip():
        raise ValueError("must be a path or URL of printable characters, and not empty")
    match = _URL.fullmatch(value)
    rest = match.group(2) if match else value
    if match and match.group(1).lower() not in _SCHEMES:
        shown = f"scheme '{match.group(1)}://'" if rest.startswith("//") else "a URL of this form"
        raise ValueError(f"{shown} is not supported: {_WAY_OUT}")
    if match and ("@" in rest or "?" in rest or "#" in rest):
        raise ValueError("a URL here must not hold user names, passwords, queries or fragments")
    # As it will be read: a file URL's percent-encoding may hide dots.
    if {"..", "~"} & {unquote(part) for part in rest.split("/")} or "\\" in unquote(rest):
        raise ValueError("must not contain '..', '~' or a backslash: write the path that is meant")
    if not match and value.startswith("//"):
        raise ValueError(f"must not start with '//': {_WAY_OUT}")
    return value


def check_local_folder(value: str | None) -> str | None:
    """The same for what is only ever on this machine, or None."""
    if value is not None and _URL.fullmatch(value):
        raise ValueError("must be a local folder, as in /var/cache")
    return value if value is None else check_location(value)


def check_run_location(value: str) -> str:
    """The same for what is written to, which the package's own data is not."""
    if value.partition(":")[0].lower() == "builtin":
        raise ValueError(f"builtin: names data in the package: {_WAY_OUT}")
    return check_location(value)
