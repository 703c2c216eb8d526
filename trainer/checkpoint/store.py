"""The commit protocol: a checkpoint is there completely and verified, or not at all.

Parts are written under a prefix of this attempt's own and compared with what the store has, then
the manifest, and last the marker, which replaces one that an earlier life of the run left. A
reader that sees no marker must treat the checkpoint as absent, because object stores have no
atomic rename of a folder.
No TensorFlow here.
"""

import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from trainer.checkpoint.format import (
    FORMAT,
    MAX_DOCUMENT_BYTES,
    Arrays,
    Commit,
    Manifest,
    check_array,
    check_format,
    crc32c,
    decode_commit,
    decode_manifest,
    encode,
    encode_manifest,
    state_sha256,
)
from trainer.checkpoint.names import COMMIT_FILE, folder_name, parse_folder
from trainer.checkpoint.parts import DamagedError, read_parts, write_parts
from trainer.errors import CheckpointError, ObjectNotFoundError, StorageError
from trainer.storage import Storage

ORPHAN_SECONDS = 86_400.0


@dataclass(frozen=True, order=True)
class Found:
    """A checkpoint's folder; ordered by (fence, step), the order of restoring.

    committed: it may be restored. too_late: it has a marker, but another job had taken the run
    over before it came.
    """

    fence: int
    step: int
    committed: bool
    updated: float
    too_late: bool = False

    @classmethod
    def of_name(cls, name: str) -> "Found":
        """A committed one by its folder's name, which the chief of a group may alone have seen."""
        step, fence = parse_folder(name) or (0, 0)
        return cls(fence, step, committed=True, updated=0.0)

    @property
    def name(self) -> str:
        """The folder's name."""
        return folder_name(self.step, self.fence)

    @property
    def problem(self) -> str | None:
        """Why it is no checkpoint, in words."""
        if self.committed:
            return None
        why = "was committed after another job took the run over"
        return f"checkpoint {self.name} {why if self.too_late else 'has no COMMIT marker'}"


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint in memory."""

    manifest: Manifest
    arrays: dict[str, NDArray[Any]]


class CheckpointStore:
    """Checkpoints under one storage root, which holds nothing else.

    Args:
        fence: what new checkpoints carry.
        limits: the last step that counts, by fence; see `trainer.checkpoint.lease`.
        clock: Unix time in seconds.
        new_writer: a name for one attempt to save, never given twice.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        fence: int = 0,
        limits: Mapping[int, int] = MappingProxyType({}),
        clock: Callable[[], float] = time.time,
        new_writer: Callable[[], str] = lambda: uuid.uuid4().hex[:12],
        on_commit: Callable[[], None] = lambda: None,
    ) -> None:
        self.fence = fence
        self._storage = storage
        self._limits = limits
        self._clock = clock
        self._new_writer = new_writer
        self._on_commit = on_commit

    def all(self) -> list[Found]:
        """All checkpoints, committed or not, in the order (fence, step)."""
        found: dict[tuple[int, int], Found] = {}
        for entry in self._storage.list():
            folder, _, rest = entry.path.partition("/")
            if key := parse_folder(folder):
                step, fence = key
                known = found.get(key, Found(fence, step, committed=False, updated=0.0))
                has_marker = known.committed or known.too_late or rest == COMMIT_FILE
                in_time = step <= self._limits.get(fence, step)
                found[key] = Found(
                    fence, step, has_marker and in_time, max(known.updated, entry.updated),
                    too_late=has_marker and not in_time,
                )  # fmt: skip
        return sorted(found.values())

    def stored_bytes(self, folder: str) -> int:
        """Bytes of all files of a checkpoint, of unfinished attempts too."""
        return sum(entry.size for entry in self._storage.list(folder))

    def check_writable(self) -> None:
        """StorageError when `save` would find that it cannot write; nothing is written."""
        folder = folder_name(10**12, self.fence)
        self._storage.check_writable(f"{folder}/{self._new_writer()}/manifest.json")

    def save(
        self, step: int, arrays: Arrays, *, state: dict[str, Any], metrics: dict[str, float]
    ) -> Manifest:
        """Write and commit one checkpoint; returns once it is durable.

        Raises StorageError, and ConfigError for what `read` would refuse; whatever was written by
        then is not a checkpoint, and removed.
        """
        for name, array in arrays.items():
            check_array(name, array.dtype.name, array.shape)
        writer = self._new_writer()
        try:
            return self._save(writer, step, arrays, state, metrics)
        except Exception:
            # At once: on a full disk the parts of one failure would make all others fail.
            with suppress(StorageError, CheckpointError):
                self._withdraw(folder_name(step, self.fence), writer)
            raise

    def _save(
        self, writer: str, step: int, arrays: Arrays, state: dict[str, Any],
        metrics: dict[str, float],
    ) -> Manifest:  # fmt: skip
        folder = folder_name(step, self.fence)
        entries, parts, sha256 = write_parts(self._storage, f"{folder}/{writer}", arrays)
        manifest = Manifest(
            format=FORMAT,
            step=step,
            fence=self.fence,
            writer=writer,
            created=self._clock(),
            sha256=sha256,
            arrays=entries,
            parts=parts,
            metrics=metrics,
            state=state,
        )
        document = encode_manifest(manifest)
        self._storage.write(f"{folder}/{writer}/manifest.json", document)
        self._commit(folder, Commit(format=FORMAT, writer=writer, manifest_crc32c=crc32c(document)))
        self._on_commit()
        return manifest

    def _commit(self, folder: str, commit: Commit) -> None:
        marker = f"{folder}/COMMIT"
        if self._storage.create(marker, encode(commit)):
            return
        # Taken: by this very attempt if a reply was lost; or by an earlier life of the run, from
        # whose damaged checkpoint it fell back, or which stopped inside this step's validation.
        theirs = self._writer(marker)
        self._storage.write(marker, encode(commit))
        if theirs not in (None, commit.writer):
            self._delete_prefix(f"{folder}/{theirs}")

    def _withdraw(self, folder: str, writer: str) -> None:
        """Remove what an attempt wrote, unless its marker may be there after all."""
        if self._writer(f"{folder}/COMMIT") != writer:
            self._delete_prefix(f"{folder}/{writer}")

    def _writer(self, marker: str) -> str | None:
        """Whom a marker names; None without one that can be read."""
        try:
            return decode_commit(self._storage.read(marker), marker).writer
        except (ObjectNotFoundError, ValueError):
            return None

    def manifest(self, folder: str) -> Manifest:
        """The manifest of a committed checkpoint, its checksum verified.

        Raises DamagedError; CheckpointError for another format.
        """
        where = f"checkpoint {folder} in {self._storage.url}"
        try:
            marker = f"{folder}/COMMIT"
            commit = decode_commit(self._read(marker), where)
            document = self._manifest_document(folder, commit, where)
            manifest = decode_manifest(document, where)
            if commit.format != FORMAT:
                raise ValueError(f"COMMIT says format {commit.format}, but it is {FORMAT}")
            if (folder_name(manifest.step, manifest.fence), manifest.writer) != (
                folder,
                commit.writer,
            ):
                raise ValueError("manifest.json is that of another checkpoint")
            return manifest
        except ObjectNotFoundError as error:
            what = "has no COMMIT marker" if str(error).find("COMMIT") >= 0 else str(error)
            raise DamagedError(f"{where} {what}") from error
        except ValueError as error:
            raise DamagedError(f"{where} is damaged: {error}") from error

    def _manifest_document(self, folder: str, commit: Commit, where: str) -> bytes:
        try:
            document = self._read(f"{folder}/{commit.writer}/manifest.json")
            if crc32c(document) != commit.manifest_crc32c:
                raise ValueError("manifest.json differs from its checksum")
        except (ObjectNotFoundError, ValueError):
            # Another format may have another manifest.
            check_format(commit.model_dump(), where)
            raise
        return document

    def _read(self, path: str) -> bytes:
        if self._storage.stat(path).size > MAX_DOCUMENT_BYTES:
            raise ValueError(f"{path} is larger than {MAX_DOCUMENT_BYTES} bytes")
        return self._storage.read(path)

    def read(self, folder: str) -> Checkpoint:
        """A checkpoint, every byte of it verified. Raises like `manifest`."""
        manifest = self.manifest(folder)
        arrays = read_parts(self._storage, folder, manifest)
        if state_sha256(arrays) != manifest.sha256:
            raise DamagedError(f"checkpoint {folder} is damaged: arrays differ from their sha256")
        return Checkpoint(manifest, arrays)

    def metrics(self, folder: str) -> dict[str, float]:
        """The epoch's metrics of a checkpoint; none when it is damaged or of another format."""
        try:
            return self.manifest(folder).metrics
        except CheckpointError:
            return {}

    def delete(self, step: int, fence: int) -> None:
        """Remove a checkpoint, its marker first: half deleted, it is already none."""
        folder = folder_name(step, fence)
        self._storage.delete(f"{folder}/COMMIT")
        self._delete_prefix(folder)

    def delete_orphans(self) -> list[Found]:
        """Remove what attempts left behind more than a day ago; returns it."""
        horizon = self._clock() - ORPHAN_SECONDS
        orphans = [
            found
            for found in self.all()
            if not found.committed and found.updated < horizon and found.fence <= self.fence
        ]
        for found in orphans:
            self._delete_prefix(found.name)
        self._storage.remove_temporaries(older_than_seconds=ORPHAN_SECONDS)
        return orphans

    def _delete_prefix(self, prefix: str) -> None:
        for entry in list(self._storage.list(prefix)):
            self._storage.delete(entry.path)
