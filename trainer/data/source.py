"""Decoded examples by record number: held in memory, or read and decoded as they are needed."""

import json
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, cast

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from trainer.data.diagnose import diagnose, locate
from trainer.data.manifest import FEATURES_FILE, Manifest, SplitSlice
from trainer.data.order import Ids
from trainer.data.reader import RecordReader
from trainer.data.spec import DataSpec
from trainer.data.verify import read_described
from trainer.errors import ConfigError, DataError
from trainer.models.held import operations
from trainer.plugins import load_object
from trainer.storage.base import Storage
from trainer.user_code import describe, user_code

# Chunks whose records are searched for the culprit when TensorFlow refuses one.
_REMEMBERED_READS = 64
_DECODE_CHUNK = 1024
_CLASS_KEYS = ("pythonClassName", "python_class_name", "type")
# What TensorFlow says of them, one by one and all at once, between other lines.
_BATCHING = re.compile("Cannot (add tensor to the batch|batch tensors).*")


class Decoder:
    """What makes an example of a serialized record, traced once for all that reads the data set.

    Calling it, in a graph: string [] -> (x, y) or (x, y, weight).

    Args:
        preprocess: `data.preprocess`, the import path of a function on a record's features.
    """

    def __init__(
        self, storage: Storage, manifest: Manifest, spec: DataSpec, preprocess: str | None = None
    ) -> None:
        features = read_described(storage, FEATURES_FILE, manifest.features_sha256)
        self.features_json = json.loads(features)
        self._features = _features(self.features_json)
        self._spec = spec
        # By name, in the order in which a record goes through them.
        self.steps: dict[str, Callable[[Any], Any]] = {}
        self._read = self._features.deserialize_example
        names = ", ".join(sorted(self._features))
        if preprocess is not None:
            self._function = load_object(preprocess, key="data.preprocess")
            self._read = self._preprocess
            step = self._step(self._read, f"data.preprocess {preprocess}", names, manifest)
            names = ", ".join(sorted(step.structured_outputs))
        self._traced = self._step(self._decode, "the data function decode", names, manifest)

        spec_of_many = [tf.TensorSpec([None], tf.string)]
        self.batch = tf.function(self._batch, input_signature=spec_of_many, autograph=False)

    def __call__(self, payload: Any) -> Any:
        return self._traced(payload)

    def _batch(self, payloads: Any) -> Any:
        """string [N] -> examples [N, ...]; `batch` is this, traced once."""
        one = tf.data.Dataset.from_tensor_slices(payloads)
        decoded = one.map(self._traced, num_parallel_calls=tf.data.AUTOTUNE)
        options = tf.data.Options()
        options.autotune.enabled = False  # see `Pipeline`
        every = decoded.batch(tf.size(payloads, tf.int64)).with_options(options)
        return every.get_single_element()

    def _step(
        self, function: Callable[[Any], Any], name: str, features: str, manifest: Manifest
    ) -> Any:
        with user_code(f"{name}, given the features {features} of {manifest.name},"):
            step = traced(function, tf.TensorSpec([], tf.string), name=name)
        self.steps[name] = step
        return step

    def _decode(self, payload: Any) -> Any:
        return self._spec.decode(self._read(payload))

    def _preprocess(self, payload: Any) -> Any:
        features = self._function(self._features.deserialize_example(payload))
        if not isinstance(features, dict):
            raise TypeError(f"it must return a dict of tensors, not {type(features).__name__}")
        return features


class RecordSource:
    """Serialized records of one slice and the function that decodes one of them."""

    def __init__(
        self, manifest: Manifest, part: SplitSlice, spec: DataSpec, decode: Decoder,
        reader: RecordReader,
    ) -> None:  # fmt: skip
        self.part = part
        self.spec = spec
        self.decode = decode
        self.reader = reader
        self._manifest = manifest
        self._reads: deque[Ids] = deque(maxlen=_REMEMBERED_READS)
        self._failure: Exception | None = None

    def __len__(self) -> int:
        return self.part.num_records

    @property
    def first(self) -> int:
        """The number of the slice's first record."""
        return self.part.start

    @property
    def augment(self) -> Callable[[Any, Any], Any] | None:
        """What is done to each example in each epoch anew."""
        return self.spec.augment

    def read(self, ids: Ids) -> Any:
        """Payloads of the records `ids` as an object array of the same shape."""
        self._reads.append(ids)
        try:
            return self.reader.read(ids.ravel()).reshape(ids.shape)
        except Exception as error:
            # tf.data would keep only the text of this error: see `explain`.
            self._failure = error
            raise

    def explain(self, error: Exception) -> Exception:
        """The error behind one that TensorFlow raised while it fetched records."""
        if self._failure is not None:
            return self._failure
        for ids in list(self._reads):  # others may read meanwhile
            unique = np.unique(ids[ids >= 0])
            try:
                payloads = self.reader.read(unique).tolist()
                features = self.decode.features_json
                diagnose(payloads, unique, self._manifest, features, self.part.name)
                self._decode_each(payloads, unique)
            except DataError as found:
                return found
        unbatched = _BATCHING.search(str(error))
        return error if unbatched is None else _shape_error(unbatched[0])

    def _decode_each(self, payloads: Sequence[bytes], ids: Ids) -> None:
        """DataError for the first record that a step of decoding itself refuses."""
        for name, step in self.decode.steps.items():
            done = 0
            try:
                for _ in tf.data.Dataset.from_tensor_slices(list(payloads)).map(step):
                    done += 1
            except tf.errors.OpError as error:
                file, number = locate(self._manifest.split(self.part.name), int(ids[done]))
                raise DataError(
                    f"{name}, given record {number} of {file}, raised {describe(error)}"
                ) from error


class MemorySource:
    """Examples held in memory; rows are gathered by record number.

    arrays: tensors [N, ...] in the examples' structure, the first of which is record `first`.
    explain: finds the error of the data behind one of TensorFlow's.
    """

    def __init__(
        self, arrays: Any, *, first: int = 0, augment: Callable[[Any, Any], Any] | None = None,
        explain: Callable[[Exception], Exception] = lambda error: error,
    ) -> None:  # fmt: skip
        self.arrays = arrays
        self.first = first
        self.augment = augment
        self.explain = explain

    @classmethod
    def of(cls, records: RecordSource) -> "MemorySource":
        """All examples of a slice, decoded once."""
        return cls(
            _decode_all(records), first=records.first, augment=records.augment,
            explain=records.explain,
        )  # fmt: skip

    def __len__(self) -> int:
        return int(tf.nest.flatten(self.arrays)[0].shape[0])

    def gather(self, ids: Any) -> Any:
        """Examples of the records `ids`, any shape, in the tf.data graph."""
        rows = ids - self.first
        return tf.nest.map_structure(lambda array: tf.gather(array, rows), self.arrays)


def first_example(records: RecordSource) -> Any:
    """The slice's first example, batched: tensors [1, ...]."""
    return next(iter(_decoded(records, np.asarray([records.part.start]), batch=1)))


def decoded_bytes(records: RecordSource) -> int:
    """Size of the whole slice once decoded, estimated from its first record."""
    first = first_example(records)
    per_record = sum(t.shape.num_elements() * t.dtype.size for t in tf.nest.flatten(first))
    return int(per_record) * records.part.num_records


def _decode_all(records: RecordSource) -> Any:
    ids = np.arange(records.part.start, records.part.stop)
    chunks = [
        tf.nest.map_structure(lambda tensor: tensor.numpy(), batch)
        for batch in _decoded(records, ids, batch=_DECODE_CHUNK)
    ]
    try:
        joined = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *chunks)
    except ValueError as error:
        raise _shape_error(str(error)) from error
    return tf.nest.map_structure(tf.constant, joined)


def _decoded(records: RecordSource, ids: Ids, *, batch: int) -> Any:
    """Batches of decoded examples, eagerly, in the order of `ids`."""
    for start in range(0, len(ids), batch):
        following = ids[start : start + batch + records.reader.num_ahead]
        records.reader.expect(records.reader.blocks_of(following), drop_others=True)
        # Here, and not in a thread of TensorFlow: a signal may end it, however long it takes.
        payloads = records.read(ids[start : start + batch])
        try:
            yield records.decode.batch(tf.constant(payloads, tf.string))
        except tf.errors.OpError as error:
            raise records.explain(error) from error


def _shape_error(reason: str) -> DataError:
    return DataError(
        f"decoded records differ in shape and cannot be batched: {reason.partition(' [Op:')[0]}; "
        "let the recipe's decode resize or pad them"
    )


def _features(tree: dict[str, Any]) -> Any:
    # TensorFlow Datasets imports what is named there, and who writes data sets is to run nothing.
    for name in _classes(tree):
        module = name.rpartition(".")[0]
        if not name.startswith("tensorflow_datasets.") and module not in sys.modules:
            raise DataError(
                f"{FEATURES_FILE} names the class {name}, which is none of TensorFlow Datasets: "
                f"if you know it, import {module} in the recipe's module"
            )
    try:
        return tfds.features.FeaturesDict.from_json(tree)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{FEATURES_FILE} is not one of TensorFlow Datasets: {error}") from error


def _classes(tree: Any) -> Iterator[str]:
    """What features.json names as classes, in each of its forms; some hold JSON in a text."""
    if isinstance(tree, str) and tree.lstrip()[:1] in ("{", "["):
        with suppress(ValueError):
            yield from _classes(json.loads(tree))
    elif isinstance(tree, list):
        for below in tree:
            yield from _classes(below)
    elif isinstance(tree, dict):
        for key, below in tree.items():
            if key in _CLASS_KEYS and isinstance(below, str) and "." in below:
                yield below
            yield from _classes(below)


def traced(function: Callable[..., Any], *specs: Any, name: str) -> Callable[..., Any]:
    """The graph of a function on records, which `name` names.

    ConfigError when it draws from a random state of its own: such draws depend on how often the
    function ran before, so a resumed run would differ.
    """
    concrete = tf.function(function).get_concrete_function(*specs)
    for node in operations(concrete):
        if _is_stateful_random(node.op):
            raise ConfigError(
                f"{name} uses {node.op}, a random draw or a state that a resumed "
                "run cannot repeat: use tf.random.stateless_* with the seed that augment receives"
            )
    return cast(Callable[..., Any], concrete)


# Assign: a Keras layer or seed generator counts its draws in a variable.
_STATEFUL = ("Random", "TruncatedNormal", "Multinomial", "Stateful", "Rng", "SampleDistorted")


def _is_stateful_random(op: str) -> bool:
    is_random = any(part in op for part in _STATEFUL) or op.startswith("Assign")
    return is_random and not op.startswith("Stateless")
