"""Preparing data sets: the only place that may download.

TensorFlow Datasets builds a folder of TFRecord shards; every record is then checked, shards are
copied to where the runs read them, and the manifest is written last. Whatever was interrupted
has no manifest, and a repetition keeps the shards that arrived whole.
"""

import dataclasses
import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from trainer.data.canonical import canonicalize
from trainer.data.directory import OnProgress, read_directory
from trainer.data.index import index_directory
from trainer.data.manifest import (
    MANIFEST_FILE,
    Manifest,
    Shard,
    find_manifest,
    write_manifest,
)
from trainer.data.originals import require_originals
from trainer.data.tfrecord import checksum
from trainer.data.verify import verify
from trainer.errors import ConfigError, DataError, ObjectNotFoundError, StorageError
from trainer.storage import is_remote, open_storage
from trainer.storage.access import ATTEMPT_SECONDS, wait_for_access
from trainer.storage.base import Entry, Storage
from trainer.storage.parallel import alone_if, in_parallel

__all__ = ["BuildRequest", "prepare"]

_LARGE_BYTES = 256 << 20
_NAME = re.compile(
    r"(?P<base>[a-z][a-z0-9_]*)(/(?P<config>[\w.+-]+))?(:(?P<version>\d+\.\d+\.\d+))?"
)


@dataclass(frozen=True)
class BuildRequest:
    """What to build, from where, and a folder to build it in.

    `source` is a folder with the original files, or None to download them.
    """

    name: str
    source: Path | None
    work: Path
    downloads: Path

    @property
    def parts(self) -> tuple[str, str | None, str | None]:
        """Name, configuration and version in "NAME/CONFIG:VERSION"."""
        match = _NAME.fullmatch(self.name)
        if match is None:
            raise ConfigError(
                f"'{self.name}' names no data set: write NAME, NAME/CONFIG or NAME:VERSION, or"
                " run 'trainer data index' on a folder that TensorFlow Datasets wrote"
            )
        return match["base"], match["config"], match["version"]


Build = Callable[[BuildRequest], Path]


def prepare(
    name: str,
    to: str,
    *,
    source: Path | None = None,
    on_progress: OnProgress | None = None,
    work: Path | None = None,
    build: Build | None = None,
) -> Manifest:
    """Prepare data set `name` of TensorFlow Datasets ("mnist", "mnist:3.0.1") at the URL `to`.

    Args:
        source: a folder with the original files, under the names that TensorFlow Datasets
            gives them; nothing is downloaded then.
        on_progress: told a line for a person about every stage and shard.
        work: folder for downloads and the build, by default in the user's cache.

    Raises:
        ConfigError: no such data set, or `to` holds another one.
        DataFormatError: `to` holds one of another version.
        DataError: the originals are missing or cannot be reached, or the result is damaged.
        StorageError: `to` refused a write.
    """
    say = _say_nothing if on_progress is None else on_progress
    cache = work or cache_folder(name)
    request = BuildRequest(name, source, cache, cache / "downloads")
    storage = open_storage(to)
    complete = _complete_manifest(storage, request, say)
    if complete is not None:
        return complete
    _check_access(to)
    with work_folder(cache) as folder:
        say(f"building {name} with TensorFlow Datasets")
        request = dataclasses.replace(request, work=folder)
        built = open_storage(str((build or build_with_tfds)(request)))
        manifest = index_directory(built.url, on_progress=say)
        _copy(built, storage, manifest, say)
    shutil.rmtree(cache / "downloads", ignore_errors=True)
    return manifest


def check_target(to: str, name: str) -> Storage:
    """Where a data set of that name may go.

    Raises:
        ConfigError: another one is there.
        DataFormatError: one of another version is there.
    """
    if Path(to).is_file():
        raise ConfigError(f"--to {to} is a file: name a folder")
    storage = open_storage(to)
    _check_access(to)
    manifest = find_manifest(storage)
    if manifest is not None and manifest.name != name:
        raise _other(storage, manifest, name)
    return storage


def deliver(built: Storage, to: Storage, say: OnProgress) -> Manifest:
    """Index what was built, and copy it; the same that is there already is only verified.

    Raises:
        ConfigError: `to` holds other records, which runs may live on.
        DataFormatError: it holds some of another version.
    """
    manifest = index_directory(built.url, on_progress=say)
    there = find_manifest(to)
    if there is not None and there != manifest:
        other = "statistics of the same records" if there.splits == manifest.splits else "records"
        raise ConfigError(
            f"{to.url} holds {there.name} with other {other}, which runs may have begun with:"
            " choose another folder, or delete this one"
        )
    if there is None or verify(to):
        _copy(built, to, manifest, say)
    else:
        say(f"{to.url} holds {manifest.name} {manifest.version} already, verified")
    return manifest


def _check_access(to: str) -> None:
    """Before the work of building, which would be for nothing."""
    if is_remote(to):
        wait_for_access(
            open_storage(to, deadline_seconds=ATTEMPT_SECONDS),
            writes=True, seconds=0, on_wait=_say_nothing,
        )  # fmt: skip


def _other(storage: Storage, manifest: Manifest, wanted: str) -> ConfigError:
    config = _config_of(storage)
    name = manifest.name if config is None else f"{manifest.name}/{config}"
    return ConfigError(
        f"{storage.url} holds data set {name} {manifest.version}, not {wanted}: choose an empty"
        " folder"
    )


def _config_of(storage: Storage) -> str | None:
    """The configuration of the data set there; None where its file is damaged, too."""
    with suppress(DataError):
        return read_directory(storage).config
    return None


def _is_config(found: str | None, base: str, wanted: str | None) -> bool:
    """Whether it is the wanted one, or that which TensorFlow Datasets takes where none is named."""
    if wanted is None and found is not None:
        default = _find_builder(base).default_builder_config
        return default is not None and found == default.name
    return found == wanted


def _complete_manifest(storage: Storage, request: BuildRequest, say: OnProgress) -> Manifest | None:
    """The manifest at the destination when its data set is the wanted one and unharmed."""
    base, config, version = request.parts
    manifest = find_manifest(storage)
    if manifest is None:
        return None
    is_wanted = manifest.name == base and version in (None, manifest.version)
    if not is_wanted or not _is_config(_config_of(storage), base, config):
        raise _other(storage, manifest, request.name)
    problems = verify(storage)
    for problem in problems:
        say(f"{problem}: prepared again")
    if not problems:
        say(f"{storage.url} holds {manifest.name} {manifest.version} already, verified")
    return None if problems else manifest


def _copy(built: Storage, to: Storage, manifest: Manifest, say: OnProgress) -> None:
    """Copy a complete data set, its manifest last."""
    to.delete(MANIFEST_FILE)
    shards = {s.file: s for split in manifest.splits.values() for s in split.shards}

    def copy(file: Entry) -> None:
        with alone_if(file.size > _LARGE_BYTES):
            shard = shards.get(file.path)
            is_kept = shard is not None and _is_there(to, shard)
            if not is_kept:
                to.write(file.path, built.read(file.path))
        if shard is not None:
            say(f"{'kept' if is_kept else 'copied'} {file.path}: {file.size} bytes")

    files = [entry for entry in built.list() if entry.path != MANIFEST_FILE]
    in_parallel([partial(copy, file) for file in files])
    write_manifest(to, manifest)


def _is_there(storage: Storage, shard: Shard) -> bool:
    try:
        found = storage.stat(shard.file)
    except ObjectNotFoundError:
        return False
    if found.size != shard.size_bytes:
        return False
    # Where the store has checked it, nothing has to be read.
    return (found.crc32c or checksum(storage.read(shard.file))) == shard.crc32c


def build_with_tfds(request: BuildRequest) -> Path:
    """Build with TensorFlow Datasets; the folder that it wrote."""
    import tensorflow_datasets as tfds

    builder = _make_builder(request)
    try:
        builder.download_and_prepare(
            download_dir=str(request.downloads),
            download_config=tfds.download.DownloadConfig(
                manual_dir=request.source and str(request.source),
                # Never shared: an extraction is found again by its file's name alone, and
                # several data sets call their files alike.
                extract_dir=str(request.work / "extracted"),
                try_download_gcs=False,
            ),
        )
    except Exception as error:
        # Whatever a builder raises: its code and its originals are not ours.
        raise DataError(
            f"TensorFlow Datasets could not prepare {request.name} ({_first_line(error)}): try"
            " again, or give the original files with --source"
        ) from error
    folder = Path(builder.data_dir)
    for shard in sorted(folder.glob("*.tfrecord*")):
        canonicalize(shard)
    return folder


def _make_builder(request: BuildRequest) -> Any:
    """The data set's builder, whose originals are genuine local files or can be reached."""
    base, config, version = request.parts
    builder_class = require_originals(_find_builder(base), request.source)
    try:
        return builder_class(
            data_dir=str(request.work), config=config, version=version, file_format="tfrecord"
        )
    except (AssertionError, ValueError) as error:
        raise ConfigError(
            f"TensorFlow Datasets has no '{request.name}' ({_first_line(error)}): name a"
            " configuration and a version that it knows, or neither"
        ) from error


def _find_builder(base: str) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_cls(base)
    except tfds.core.registered.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        nearest = get_close_matches(base, known, n=1)
        hint = f"did you mean '{nearest[0]}'?" if nearest else "see 'trainer data list'"
        raise ConfigError(f"no data set '{base}' in TensorFlow Datasets: {hint}") from None


def cache_folder(name: str) -> Path:
    """Where downloads of a data set are, and where it is built."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "trainer" / "prepare" / re.sub(r"[^a-z0-9_.-]", "-", name)


@contextmanager
def work_folder(cache: Path) -> Iterator[Path]:
    """A new folder in `cache`, for one process at a time; what killed ones left there goes."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        held = os.open(cache, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for left in cache.glob("build-*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = tempfile.TemporaryDirectory(prefix="build-", dir=cache)
    except BlockingIOError:
        raise ConfigError(
            f"another process prepares the same in {cache}: wait for it, or end it"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"cannot build in {cache} ({error.strerror}): set XDG_CACHE_HOME to a folder that"
            " this user may write"
        ) from error
    try:
        with folder as path:
            yield Path(path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageError(
            f"no space is left in {cache}: free some, or set XDG_CACHE_HOME to a folder on another"
            " disk"
        ) from error
    finally:
        os.close(held)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _say_nothing(_: str) -> None:
    pass
