"""Objects under one root, chosen by URL.

A local path or `file:///ABSOLUTE/PATH` is a folder (`LocalStorage`). A refused URL is shown only
when it is a plain local path: what follows a scheme may hold a password or a signature.
"""

import re
from pathlib import Path
from urllib.parse import unquote

from trainer.config.locations import NO_GCS
from trainer.errors import ConfigError
from trainer.storage.base import Entry, Storage
from trainer.storage.local import LocalStorage

__all__ = ["Entry", "LocalStorage", "Storage", "open_storage"]

_WAY_OUT = "use a local folder, such as /data/runs/demo or file:///data/runs/demo"


def open_storage(url: str) -> Storage:
    """The storage rooted at `url`. Nothing is read or created yet.

    Raises `ConfigError` for a scheme that is not supported, user info, `..` parts, and anything
    else that does not name a local folder beyond doubt.
    """
    scheme, colon, rest = url.partition(":")
    if not colon or "/" in scheme:
        return LocalStorage(_checked(url))
    if scheme.lower() == "file":
        return LocalStorage(_checked(_path_of_file_url(rest)))
    if "@" in rest:
        raise _user_info_error()
    if scheme.lower() == "gs":
        raise ConfigError(NO_GCS)
    # Only what looks like a scheme is shown: in 'name:password' the first part may be private.
    is_plain = rest.startswith("//") and re.fullmatch(r"[a-z][a-z0-9+.-]{1,9}", scheme.lower())
    shown = f"{scheme}://" if is_plain else "URLs of this form (not shown)"
    raise ConfigError(f"{shown} storage is not supported: {_WAY_OUT}")


def _path_of_file_url(rest: str) -> str:
    """The path of what follows `file:`, percent-decoded."""
    host, slash, path = rest.removeprefix("//").partition("/")
    if "@" in host:
        raise _user_info_error()
    if not rest.startswith("//") or not slash or host.lower() not in ("", "localhost"):
        raise ConfigError("a file URL must name this host and an absolute path: write file:///PATH")
    if "?" in path or "#" in path:
        raise ConfigError("a file URL holds no query or fragment: write '?' as %3F, '#' as %23")
    try:
        return "/" + unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise ConfigError("the file URL's percent-encoding is not UTF-8: mend it") from None


def _checked(path: str) -> Path:
    if not path.isprintable() or not path:
        raise ConfigError(f"{path!r} names no folder (empty or unprintable): {_WAY_OUT}")
    if path.startswith("//"):
        raise ConfigError(f"a storage path starts with '//' (not shown): {_WAY_OUT}")
    if path.startswith("~"):
        raise ConfigError(f"'~' is not expanded in {path!r}: write the whole path")
    if ".." in path.split("/") or "\\" in path:
        raise ConfigError(f"{path!r} holds '..' or a backslash: write the path without it")
    return Path(path)


def _user_info_error() -> ConfigError:
    return ConfigError(
        "the storage URL holds a user name or a password (not shown): take it out of the URL"
    )
