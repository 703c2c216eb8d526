"""The documents of a checkpoint, version 1, as frozen data; no I/O.

    checkpoints/step-00001200-f0/
        COMMIT                       names the manifest; without it there is no checkpoint
        <writer>/manifest.json       arrays, parts, state; names every part with its checksum
        <writer>/part-00000.safetensors …

`writer` is unique to one attempt to save, so attempts never write into each other's files.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import google_crc32c
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from trainer.config import Section
from trainer.errors import CheckpointError, ConfigError

FORMAT = 1
MAX_DOCUMENT_BYTES = 64 << 20
MAX_ARRAY_BYTES = 32 << 30  # of an embedding, say
MAX_PART_BYTES = 2 * MAX_ARRAY_BYTES  # one array at least, and its name
# numpy's own types, and bfloat16, which numpy knows only with ml_dtypes (TensorFlow brings it).
DTYPE_BYTES = {
    "bool": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8, "uint8": 1, "uint16": 2,
    "uint32": 4, "uint64": 8, "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8,
}  # fmt: skip

_BASE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,100}$"

DocumentT = TypeVar("DocumentT", "Commit", "Manifest")
Arrays = Mapping[str, NDArray[Any]]


class ArrayEntry(Section):
    """One named array and the part that holds it."""

    name: str
    part: int = Field(ge=0)
    dtype: str
    shape: tuple[int, ...] = Field(strict=False)

    @property
    def num_bytes(self) -> int:
        """Size that dtype and shape claim."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


class PartEntry(Section):
    """One file of arrays."""

    file: str = Field(pattern=_BASE_NAME)
    size: int = Field(ge=0, le=MAX_PART_BYTES)
    crc32c: str


class Manifest(Section):
    """Everything about one checkpoint but the arrays' values."""

    format: int
    step: int = Field(ge=0)
    fence: int = Field(ge=0)
    writer: str = Field(pattern=_BASE_NAME)
    created: float
    sha256: str
    arrays: tuple[ArrayEntry, ...] = Field(strict=False)
    parts: tuple[PartEntry, ...] = Field(strict=False)
    metrics: dict[str, float]
    state: dict[str, Any]

    @property
    def num_bytes(self) -> int:
        """Size of all parts."""
        return sum(part.size for part in self.parts)


class Commit(Section):
    """The marker: which attempt counts, and the checksum of its manifest."""

    format: int
    writer: str = Field(pattern=_BASE_NAME)
    manifest_crc32c: str


def crc32c(data: bytes) -> str:
    """CRC-32C as eight hexadecimal digits."""
    return f"{google_crc32c.value(data):08x}"


def state_sha256(arrays: Arrays) -> str:
    """sha256 over model (seeds included) and optimizer arrays: equal runs have equal ones."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        if name.startswith(("model/", "optimizer/")):
            array = arrays[name]
            digest.update(f"{name} {array.dtype} {array.shape};".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def array_entries(groups: Sequence[Sequence[str]], arrays: Arrays) -> tuple[ArrayEntry, ...]:
    """The entries of arrays whose names are given part by part."""
    return tuple(
        ArrayEntry(name=name, part=part, dtype=arrays[name].dtype.name, shape=arrays[name].shape)
        for part, names in enumerate(groups)
        for name in names
    )


def grouped(arrays: Arrays, part_bytes: int) -> list[list[str]]:
    """Names in parts of about so many bytes, so that parts can be moved in parallel."""
    groups: list[list[str]] = [[]]
    size = 0
    for name, array in arrays.items():
        if groups[-1] and size + array.nbytes > part_bytes:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += array.nbytes
    return groups


def storable(array: NDArray[Any]) -> NDArray[Any]:
    """As safetensors takes it: of numpy's own types; the manifest keeps the true one."""
    plain = array.view(np.uint16) if array.dtype.name == "bfloat16" else array
    return np.asarray(plain, order="C")


def restored(array: NDArray[Any], entry: ArrayEntry) -> NDArray[Any]:
    """As it was before `storable`; ValueError when it is not what its entry says."""
    if entry.dtype == "bfloat16" and array.dtype == np.uint16:
        import ml_dtypes

        array = array.view(ml_dtypes.bfloat16)
    if array.dtype.name != entry.dtype or array.shape != entry.shape:
        raise ValueError(f"array {entry.name} is not {entry.dtype} {entry.shape}")
    return array


def check_array(name: str, dtype: str, shape: tuple[int, ...]) -> None:
    """ConfigError for an array that no checkpoint can hold."""
    if dtype not in DTYPE_BYTES:
        raise ConfigError(
            f"{name} has dtype {dtype}, which a checkpoint cannot hold: "
            f"use one of {', '.join(DTYPE_BYTES)}"
        )
    size = math.prod(shape) * DTYPE_BYTES[dtype]
    if size > MAX_ARRAY_BYTES:
        raise ConfigError(
            f"{name} has {size} bytes, a checkpoint holds arrays of up to {MAX_ARRAY_BYTES}: "
            "split it"
        )


def encode_manifest(manifest: Manifest) -> bytes:
    """A manifest as JSON bytes, which `decode_manifest` takes; ConfigError where it would not."""
    document = encode(manifest)
    if len(document) > MAX_DOCUMENT_BYTES:
        callbacks = manifest.state.get("callbacks", {})
        sizes = {name: len(json.dumps(state)) for name, state in callbacks.items()}
        name = max(sizes, key=lambda name: sizes[name], default=None)
        largest = f": the state of callback {name} alone takes {sizes[name]}" if name else ""
        raise ConfigError(
            f"a checkpoint's manifest has {len(document)} bytes, of at most "
            f"{MAX_DOCUMENT_BYTES}{largest}; let get_state return large data as numpy arrays"
        )
    try:
        decode_manifest(document, "the manifest")
    except ValueError as error:
        raise ConfigError(f"the run's state cannot be stored, {error}: change it") from error
    return document


def encode(document: Section) -> bytes:
    """A document as JSON bytes."""
    # Not mode="json": it would turn an infinity of a callback's state into null.
    return json.dumps(document.model_dump(), indent=1, allow_nan=True).encode()


def decode_commit(data: bytes, where: str) -> Commit:
    """The marker's content, of any format whose marker has these fields.

    Raises CheckpointError for another format, and ValueError for a damaged one.
    """
    tree = _parse(data)
    try:
        return _validated(Commit, tree)
    except ValueError:
        check_format(tree, where)
        raise


def decode_manifest(data: bytes, where: str) -> Manifest:
    """A manifest whose arrays and parts agree with each other.

    Raises CheckpointError for another format, and ValueError for a damaged one.
    """
    tree = _parse(data)
    check_format(tree, where)
    manifest = _validated(Manifest, tree)
    claimed = [0] * len(manifest.parts)
    for array in manifest.arrays:
        if array.dtype not in DTYPE_BYTES or any(size < 0 for size in array.shape):
            raise ValueError(f"array {array.name} has dtype {array.dtype}, shape {array.shape}")
        if array.part >= len(claimed):
            raise ValueError(f"array {array.name} is in part {array.part}, which does not exist")
        claimed[array.part] += array.num_bytes
    for part, size in zip(manifest.parts, claimed, strict=True):
        if size > part.size:
            raise ValueError(f"arrays of {part.file} claim {size} bytes of {part.size}")
    return manifest


def check_format(tree: Any, where: str) -> None:
    """CheckpointError when a document is of another format than this version reads."""
    found = tree.get("format") if isinstance(tree, dict) else None
    if isinstance(found, int) and found != FORMAT:
        raise CheckpointError(
            f"{where} has checkpoint format {found}, this version reads format {FORMAT}: "
            f"use a {'newer' if found > FORMAT else 'older'} trainer, or another run.dir"
        )


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _validated(model: type[DocumentT], tree: Any) -> DocumentT:
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ValueError(str(error.errors(include_url=False)[0]["msg"])) from error
