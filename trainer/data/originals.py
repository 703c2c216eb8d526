"""The original files that TensorFlow Datasets builds from: reachable, or at hand and genuine."""

import dataclasses
import gzip
import hashlib
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trainer.errors import DataError

_PROBE_SECONDS = 10.0

# sha256 of decompressed originals: distributions compress them anew, so that the files differ
# from those that TensorFlow Datasets knows while their content does not.
_KNOWN_CONTENTS = {
    "fashion_mnist": frozenset(
        {
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        }
    )
}


def require_originals(builder_class: Any, source: Path | None) -> Any:
    """The builder, once its originals are known to be genuine in `source` or can be reached.

    Raises:
        DataError: they are not.
    """
    urls: dict[str, Any] = builder_class.url_infos or {}
    if source is not None:
        return accept_local_files(builder_class, urls, source)
    if builder_class.MANUAL_DOWNLOAD_INSTRUCTIONS:
        raise DataError(
            f"the originals of {builder_class.name} must be downloaded by hand: give their folder"
            f" with --source. {builder_class.MANUAL_DOWNLOAD_INSTRUCTIONS.strip()}"
        )
    check_reachable(urls)
    return builder_class


def check_reachable(urls: Iterable[str], *, timeout_seconds: float = _PROBE_SECONDS) -> None:
    """Raise `DataError` unless every host of `urls` answers within `timeout_seconds`.

    TensorFlow Datasets itself retries for minutes before it says that there is no network.
    """
    one_a_host = {urlsplit(url).netloc: url for url in urls}
    silent = set(one_a_host)

    def probe(host: str, url: str) -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=timeout_seconds).close()
        except urllib.error.HTTPError:
            pass  # an answer all the same
        except (OSError, ValueError):
            return
        silent.discard(host)

    # Daemons: looking up a name can take longer than any time-out that Python offers.
    threads = [threading.Thread(target=probe, args=i, daemon=True) for i in one_a_host.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout_seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if silent:
        raise DataError(
            f"cannot reach {', '.join(sorted(silent))} (waited {timeout_seconds:g} s at most):"
            " check the network or the proxy, give the original files with --source DIR, or use a"
            " data set that comes with the trainer (see 'trainer data list')"
        )


def accept_local_files(builder_class: Any, urls: dict[str, Any], source: Path) -> Any:
    """The builder, made to accept the files in `source` after checking that they are originals."""
    wanted = {info.filename for info in urls.values() if info.filename}
    missing = sorted(name for name in wanted if not (source / name).is_file())
    if missing:
        raise DataError(
            f"{source} lacks {', '.join(missing)}: put the original files of"
            f" {builder_class.name} there under these names"
        )
    known = _KNOWN_CONTENTS.get(builder_class.name, frozenset())
    checked = {url: _checked(info, source, known) for url, info in urls.items()}
    fields = {
        "name": builder_class.name,
        "url_infos": checked,
        "__module__": builder_class.__module__,
    }
    return type(builder_class.__name__, (builder_class,), fields, skip_registration=True)


def _checked(info: Any, source: Path, known_contents: frozenset[str]) -> Any:
    """What TensorFlow Datasets shall expect of a local file: usually what it knows already."""
    if not info.filename:
        return info
    file = source / info.filename
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found == info.checksum:
        return info
    if not known_contents or _content_sha256(file) not in known_contents:
        raise DataError(
            f"{file} is not the original file (sha256 {found}, expected {info.checksum}):"
            " it is damaged or of another data set; download it again"
        )
    return dataclasses.replace(info, checksum=found, size=file.stat().st_size)


def _content_sha256(file: Path) -> str | None:
    try:
        return hashlib.sha256(gzip.decompress(file.read_bytes())).hexdigest()
    except (OSError, EOFError, zlib.error):
        return None
