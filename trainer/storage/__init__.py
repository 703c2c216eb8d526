"""Objects under one root, chosen by URL.

A local path or `file:///ABSOLUTE/PATH` is a folder (`LocalStorage`), `gs://BUCKET/PREFIX` a part
of a bucket of Google Cloud Storage (`GCSStorage`). A refused URL is shown only when it is a plain
local path: what follows a scheme may hold a password or a signature.
"""

import re
from pathlib import Path
from urllib.parse import unquote

from trainer.errors import ConfigError
from trainer.storage.base import Entry, OnRequest, Storage, check_path
from trainer.storage.local import LocalStorage

__all__ = ["Entry", "LocalStorage", "OnRequest", "Storage", "is_remote", "open_storage"]

_WAY_OUT = "use gs://BUCKET/PREFIX or a local folder, such as /data/runs/demo"
# https://cloud.google.com/storage/docs/buckets#naming
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


def is_remote(url: str) -> bool:
    """Whether the storage at `url` is a service, which may be out of reach for a while."""
    return url.partition(":")[0].lower() == "gs"


def open_storage(
    url: str,
    *,
    timeout_seconds: float = 60,
    deadline_seconds: float = 30,
    on_request: OnRequest = lambda *_: None,
) -> Storage:
    """The storage rooted at `url`. Nothing is read or created yet.

    A remote store may stay without a byte for `timeout_seconds`, refused or broken requests are
    repeated for `deadline_seconds`, and `on_request` is told of each.

    Raises `ConfigError` for a scheme that is not supported, user info, `..` parts, and anything
    else that does not name a folder or a bucket beyond doubt.
    """
    scheme, colon, rest = url.partition(":")
    if not colon or "/" in scheme:
        return LocalStorage(_checked(url))
    if scheme.lower() == "file":
        return LocalStorage(_checked(_path_of_file_url(rest)))
    if "@" in rest:
        raise _user_info_error()
    if scheme.lower() == "gs":
        # A function-level import: it takes 0.3 s that local runs do not need.
        from trainer.storage.gcs import GCSStorage

        return GCSStorage(
            *_bucket_and_prefix(rest), timeout_seconds=timeout_seconds,
            deadline_seconds=deadline_seconds, on_request=on_request,
        )  # fmt: skip
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


def _bucket_and_prefix(rest: str) -> tuple[str, str]:
    """Bucket and prefix of what follows `gs:`."""
    bucket, _, prefix = rest.removeprefix("//").partition("/")
    if not rest.startswith("//") or not _BUCKET.fullmatch(bucket):
        raise ConfigError("a gs URL must name a bucket: write gs://BUCKET/PREFIX")
    if "?" in prefix or "#" in prefix:
        raise ConfigError("a gs URL holds no query, fragment or generation: take it out")
    prefix = prefix.rstrip("/")
    if prefix:
        check_path(prefix)
    return bucket, prefix


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
