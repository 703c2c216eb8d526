"""Which record, of which file, and which of its features does not fit features.json.

TensorFlow's parser refuses a whole batch and names neither. This is the slow way, taken only
after a refusal: parse each record and hold it against what the data set declares.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.manifest import Manifest, Split
from trainer.errors import DataError

_PNG = b"\x89PNG\r\n\x1a\n"
# PNG, JPEG, GIF and BMP: what TensorFlow decodes, whichever of them is declared.
IMAGE_STARTS = (_PNG, b"\xff\xd8", b"GIF8", b"BM")
_KINDS = {
    "bytes_list": "strings of bytes",
    "int64_list": "integers",
    "float_list": "floating-point numbers",
}


@dataclass(frozen=True)
class Expected:
    """What a record must hold under one name; None where features.json leaves it open."""

    name: str
    kind: str | None = None
    shape: tuple[int | None, ...] | None = None
    num_classes: int | None = None
    is_image: bool = False


def diagnose(
    payloads: Sequence[bytes],
    ids: NDArray[np.int64],
    manifest: Manifest,
    features_json: Mapping[str, Any],
    split: str,
) -> None:
    """Raise `DataError` for the first payload that does not fit; return if all of them do.

    Args:
        payloads: records as serialized `tf.train.Example`s.
        ids: their numbers in the split, int64 [len(payloads)].
        features_json: the content of the data set's features.json.
    """
    expected = tuple(read_features(features_json))
    for payload, record in zip(payloads, ids.tolist(), strict=True):
        reason = find_misfit(payload, expected)
        if reason is not None:
            file, number = locate(manifest.split(split), record)
            raise DataError(
                f"record {number} of {file} (record {record} of split '{split}' of"
                f" {manifest.name} {manifest.version}): {reason}; the records and features.json"
                " do not belong together: prepare the data set again"
            )


def find_misfit(payload: bytes, expected: Sequence[Expected]) -> str | None:
    """What is wrong with one record, or None."""
    import tensorflow as tf

    try:
        example = tf.train.Example.FromString(payload)
    except Exception as error:
        return f"it is not a tf.train.Example ({type(error).__name__})"
    found = example.features.feature
    for feature in expected:
        if feature.name not in found:
            names = ", ".join(sorted(found)) or "none"
            return f"feature '{feature.name}' is missing (it has: {names})"
        reason = _misfit(feature, found[feature.name])
        if reason is not None:
            return f"feature '{feature.name}' {reason}"
    return None


def _misfit(expected: Expected, feature: Any) -> str | None:
    kind = feature.WhichOneof("kind")
    values = getattr(feature, kind).value if kind else ()
    if expected.kind is not None and kind != expected.kind:
        return f"holds {_KINDS.get(kind, 'nothing')} where {_KINDS[expected.kind]} are declared"
    if expected.is_image:
        return _misfit_of_image(expected, values)
    if expected.shape is not None and None not in expected.shape:
        size = math.prod(dimension or 0 for dimension in expected.shape)
        if len(values) != size:
            return f"holds {len(values)} values where shape {expected.shape} needs {size}"
    if expected.num_classes is not None:
        outside = [label for label in values if not -1 <= label < expected.num_classes]
        if outside:
            return f"holds label {outside[0]} where {expected.num_classes} classes are declared"
    return None


def _misfit_of_image(expected: Expected, values: Sequence[bytes]) -> str | None:
    import tensorflow as tf

    if len(values) != 1:
        return f"holds {len(values)} images where one is declared"
    image = values[0]
    if not image.startswith(IMAGE_STARTS):
        return f"is not an image (it starts with {image[:8]!r})"
    if image.startswith(_PNG) and expected.shape is not None:
        # Only height and width: the decoder converts to the declared channels.
        size = _png_size(image)
        pairs = zip(size, expected.shape, strict=False)
        if any(declared is not None and found != declared for found, declared in pairs):
            return f"is an image of {size[0]}x{size[1]} where shape {expected.shape} is declared"
    try:
        tf.io.decode_image(image)
    except tf.errors.InvalidArgumentError as error:
        return f"cannot be decoded ({str(error.message).splitlines()[0]})"
    return None


def _png_size(data: bytes) -> tuple[int, int]:
    """Height and width in a PNG's header."""
    return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")


def locate(split: Split, record: int) -> tuple[str, int]:
    """(file, number in it) of a split's record."""
    for shard in split.shards:
        if record < shard.num_records:
            return shard.file, record
        record -= shard.num_records
    raise IndexError(f"record {record} is beyond the last of split '{split.name}'")


def read_features(tree: Mapping[str, Any], prefix: str = "") -> Iterator[Expected]:
    """What features.json demands of every record, feature by feature.

    Sequences, ragged and unknown features are stored under derived names, so nothing is demanded
    of them.
    """
    children = tree.get("featuresDict", {}).get("features", {})
    for name, spec in sorted(children.items()):
        path = f"{prefix}{name}"
        if "featuresDict" in spec:
            yield from read_features(spec, f"{path}/")
        else:
            yield from _read_feature(path, spec)


def _read_feature(name: str, spec: Mapping[str, Any]) -> Iterator[Expected]:
    if "image" in spec:
        yield Expected(name, "bytes_list", _shape(spec["image"]), is_image=True)
    elif "classLabel" in spec:
        num_classes = int(spec["classLabel"].get("numClasses", 0)) or None
        yield Expected(name, "int64_list", (), num_classes)
    elif "text" in spec:
        yield Expected(name, "bytes_list", ())
    elif "tensor" in spec:
        yield from _read_tensor(name, spec["tensor"])


def _read_tensor(name: str, tensor: Mapping[str, Any]) -> Iterator[Expected]:
    shape = _shape(tensor)
    if None in shape[1:]:
        return  # stored under two names, with its row lengths
    if tensor.get("encoding", "none").lower() not in ("none", ""):
        yield Expected(name, "bytes_list", ())
        return
    dtype = tensor.get("dtype", "")
    is_integer = dtype.startswith(("int", "uint", "bool"))
    is_float = dtype.startswith(("float", "bfloat"))
    kind = "int64_list" if is_integer else "float_list" if is_float else "bytes_list"
    yield Expected(name, kind, shape)


def _shape(spec: Mapping[str, Any]) -> tuple[int | None, ...]:
    dimensions = [int(size) for size in spec.get("shape", {}).get("dimensions", ())]
    # -1 (and, in older files, 0) stands for a size that differs between records.
    return tuple(size if size > 0 else None for size in dimensions)
