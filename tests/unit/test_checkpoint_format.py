"""The documents of a checkpoint, whole and damaged."""

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.checkpoint.format import (
    ArrayEntry,
    Commit,
    Manifest,
    PartEntry,
    decode_commit,
    decode_manifest,
    encode,
    state_sha256,
)
from trainer.checkpoint.names import folder_name, parse_folder
from trainer.errors import CheckpointError

MANIFEST = Manifest(
    format=1, step=12, fence=3, writer="a1", created=1.5, sha256="f" * 64,
    arrays=(
        ArrayEntry(name="model/0/w", part=0, dtype="float32", shape=(2, 3)),
        ArrayEntry(name="optimizer/0/i", part=1, dtype="int64", shape=()),
    ),
    parts=(
        PartEntry(file="part-00000.safetensors", size=100, crc32c="0" * 8),
        PartEntry(file="part-00001.safetensors", size=80, crc32c="0" * 8),
    ),
    metrics={"loss": 0.5}, state={"position": {"step": 12}},
)  # fmt: skip


def damaged(**changes: Any) -> bytes:
    """The manifest's JSON with other values at dotted paths."""
    tree = json.loads(encode(MANIFEST))
    for path, value in changes.items():
        *parents, last = [int(p) if p.isdigit() else p for p in path.split("__")]
        node = tree
        for parent in parents:
            node = node[parent]
        node[last] = value
    return json.dumps(tree).encode()


def test_a_manifest_comes_back() -> None:
    assert decode_manifest(encode(MANIFEST), "here") == MANIFEST


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_comes_back(value: float) -> None:
    changes = {"metrics": {"loss": value}, "state": {"best": [value]}}
    found = decode_manifest(encode(MANIFEST.model_copy(update=changes)), "here")
    assert np.array_equal(
        [found.metrics["loss"], *found.state["best"]], [value] * 2, equal_nan=True
    )


@pytest.mark.parametrize("found", [2, 7, 0, -1])
def test_another_format_is_refused_by_name(found: int) -> None:
    newer = "newer" if found > 1 else "older"
    with pytest.raises(CheckpointError, match=f"format {found}, .* reads format 1: use a {newer}"):
        decode_manifest(damaged(format=found), "here")


@pytest.mark.parametrize(
    "changes",
    [
        {"step": -1},
        {"step": "12"},
        {"step": 1.5},
        {"format": None},
        {"format": True},
        {"writer": "../other"},
        {"writer": ""},
        {"parts__0__file": "../../etc/passwd"},
        {"parts__0__file": "/etc/passwd"},
        {"parts__0__size": -5},
        {"parts__0__size": 1 << 60},
        {"arrays__0__part": 2},
        {"arrays__0__part": -1},
        {"arrays__0__dtype": "object"},
        {"arrays__0__dtype": "<f4"},
        {"arrays__0__shape": [-2, -3]},
        {"arrays__0__shape": [1 << 40, 1 << 40]},
        {"arrays__0__shape": "23"},
        {"arrays__1__shape": [100]},
        {"metrics": None},
        {"unknown": 1},
    ],
    ids=str,
)
def test_damage_is_a_value_error(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is pydantic's
        decode_manifest(damaged(**changes), "here")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
PATHS = ["arrays", "parts", "arrays__0", "arrays__0__shape", "parts__1", "state", "step", "writer"]


def refuses(data: bytes) -> bool:
    """Whether decoding ends in one of the two errors that callers expect."""
    try:
        decode_manifest(data, "here")
        decode_commit(data, "here")
    except (ValueError, CheckpointError):
        return True
    return False


@settings(max_examples=300, deadline=1000)
@given(st.sampled_from(PATHS), JSON)
def test_any_value_anywhere_is_read_or_refused(path: str, value: Any) -> None:
    assert refuses(damaged(**{path: value}))


@settings(max_examples=200, deadline=1000)
@given(st.binary(max_size=100) | JSON.map(lambda tree: json.dumps(tree).encode()))
def test_any_document_is_refused(data: bytes) -> None:
    assert refuses(data)


@settings(max_examples=100, deadline=1000)
@given(st.integers(0, 10_000), st.integers(0, 7))
def test_a_flipped_bit_never_crashes(at: int, bit: int) -> None:
    data = bytearray(encode(MANIFEST))
    data[at % len(data)] ^= 1 << bit
    assert refuses(bytes(data)) or decode_manifest(bytes(data), "here") is not None


@pytest.mark.parametrize("data", [b"[" * 200_000, b"1" * 10_000, b"\xff\xfe", b""])
def test_hostile_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        decode_commit(data, "here")


@settings(deadline=1000)
@given(st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1))
def test_a_folder_has_one_name(step: int, fence: int) -> None:
    assert parse_folder(folder_name(step, fence)) == (step, fence)


@pytest.mark.parametrize(
    "name", ["step-1-f0", "step-00000001-f00", "step-0000000\u0661-f0", "step-00000001", "tmp", ""]
)
def test_other_names_are_no_checkpoints(name: str) -> None:
    assert parse_folder(name) is None


def test_sha256_covers_model_and_optimizer_alone() -> None:
    arrays = {"model/0/w": np.ones(3, np.float32), "optimizer/0/i": np.asarray(2)}
    same = arrays | {"metric/0/total": np.ones(2), "callback/x": np.ones(1)}
    assert state_sha256(arrays) == state_sha256(same)


@pytest.mark.parametrize(
    "other",
    [
        {"model/0/w": np.ones((3, 1), np.float32)},
        {"model/0/w": np.ones(3, np.int32)},
        {"model/0/v": np.ones(3, np.float32)},
        {"model/0/w": np.asarray([1, 1, -0.0], np.float32)},
    ],
)
def test_sha256_sees_names_shapes_types_and_bits(other: dict[str, Any]) -> None:
    assert state_sha256(other) != state_sha256({"model/0/w": np.ones(3, np.float32)})


@pytest.mark.parametrize(
    "array",
    [np.asarray(1.5, ml_dtypes.bfloat16), np.zeros((0, 3)), np.asarray(7), np.ones((2, 2)).T],
    ids=["bfloat16", "empty", "scalar", "transposed"],
)
def test_sha256_takes_any_array(array: Any) -> None:
    assert len(state_sha256({"model/0/w": array})) == 64


def test_a_commit_comes_back() -> None:
    commit = Commit(format=1, writer="a1", manifest_crc32c="0" * 8)
    assert decode_commit(encode(commit), "here") == commit
