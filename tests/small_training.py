"""A small data set, model and run on logical CPUs, for tests that really train.

Import this before TensorFlow runs its first operation: it makes four logical CPUs, of which a
test of one device uses the first.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tests.small_data import shard_name, write_info
from trainer.checkpoint.position import Position, Schedule
from trainer.compiled_steps import CompiledSteps
from trainer.config import DataConfig
from trainer.data.dataset import Dataset, open_dataset
from trainer.data.index import index_directory
from trainer.data.order import records_of_step
from trainer.data.pipeline import Pipeline, Place
from trainer.data.spec import DataSpec
from trainer.data.tfrecord import frame
from trainer.evaluation import Evaluator
from trainer.fit_engine import fit
from trainer.loop import Memory, Own, TrainLoop
from trainer.models.build import build
from trainer.models.train_step import TrainStepModel
from trainer.steps import CallResult
from trainer.strategy import make_strategy
from trainer.training import begin_training, end_training

LOGICAL_CPUS = 4
_cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    _cpu, [tf.config.LogicalDeviceConfiguration()] * LOGICAL_CPUS
)
# One thread an operation: sums in one order, so that equal runs are equal to the bit.
tf.config.threading.set_intra_op_parallelism_threads(1)

FEATURES = tfds.features.FeaturesDict(
    {"x": tfds.features.Tensor(shape=(4,), dtype=np.float32), "y": tfds.features.Scalar(np.int64)}
)


def values(number: int) -> dict[str, Any]:
    """Record `number`: three classes that a line nearly separates."""
    x = np.random.default_rng(number).normal(size=4).astype(np.float32)
    return {"x": x, "y": np.int64(x[0] > 0.4) + np.int64(x[1] > 0)}


def write_vectors(folder: Path, splits: dict[str, list[int]]) -> str:
    """Shards with so many records each, numbered from 0 in every split; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, counts in splits.items():
        ends = np.cumsum([0, *counts])
        for shard, (first, last) in enumerate(itertools.pairwise(ends)):
            records = [frame(FEATURES.serialize_example(values(i))) for i in range(first, last)]
            (folder / shard_name(split, shard, len(counts))).write_bytes(b"".join(records))
    write_info(folder, splits)
    FEATURES.save_config(str(folder))
    index_directory(str(folder))
    return str(folder)


def as_pair(features: dict[str, Any]) -> tuple[Any, Any]:
    """(x, y) of a record."""
    return features["x"], features["y"]


def dataset_of(url: str, spec: DataSpec | None = None, seed: int = 3, **config: Any) -> Dataset:
    """The data set, in steps of 16 from 4 streams."""
    defaults = {"batch_size": 16, "streams": 4, "block_records": 5, "shuffle_blocks": 2}
    return open_dataset(
        DataConfig(url=url, **(defaults | config)), spec or DataSpec(as_pair), seed=seed, threads=2
    )


def layers_of(
    *, dropout: float = 0.0, normalize: bool = False, penalty: float = 0.0
) -> tuple[Any, Any]:
    """(input, output) of a two-layer network over the vectors."""
    x = keras.Input((4,))
    regularizer = keras.regularizers.L2(penalty) if penalty else None
    y = keras.layers.Dense(8, activation="tanh", kernel_regularizer=regularizer)(x)
    if normalize:
        y = keras.layers.BatchNormalization(synchronized=True, momentum=0.5)(y)
    y = keras.layers.Dropout(dropout)(y) if dropout else y
    return x, keras.layers.Dense(3, activation="softmax")(y)


def compiled(
    strategy: Any, *, cls: type = TrainStepModel, optimizer: Any = None, seed: int = 5, **net: Any
) -> Any:
    """A compiled model of ours (or of `cls`) in the strategy's scope, always the same weights."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    with strategy.scope():
        model = cls(*layers_of(**net))
        model.compile(
            optimizer=optimizer() if optimizer else keras.optimizers.Adam(0.02),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    model.jit_compile = False
    return model


def equipped(strategy: Any, *, seed: int = 5, **net: Any) -> Any:
    """The same model without `compile`."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    with strategy.scope():
        model = TrainStepModel(*layers_of(**net))
        model.equip(
            optimizer=keras.optimizers.Adam(0.02),
            loss=keras.losses.SparseCategoricalCrossentropy(),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )
    return model


@functools.cache
def cpus(count: int = 1) -> Any:
    """The strategy over `count` logical CPUs."""
    # A process trains with one strategy; here the next one would meet the keys, and so the
    # shapes, of the one before. TensorFlow's own tests set this attribute for the same reason.
    tf.distribute.MirroredStrategy._collective_key_base += 10_000
    return make_strategy([f"/cpu:{index}" for index in range(count)])


class NoBoundary:
    """Nothing is due between calls."""

    def steps_until_save(self, step: int) -> int | None:
        """None: no step needs a call's end."""

    def between_calls(self, position: Position) -> None:
        """Nothing."""

    def before_validation(self) -> None:
        """Nothing."""

    def inside_epoch(self, step: int) -> None:
        """Nothing."""

    def after_epoch(self, position: Position) -> None:
        """Nothing."""


@dataclass
class Run:
    """A run in this process; `calls` are the results of the loop's calls."""

    dataset: Dataset
    epochs: int = 2
    validation: str | None = None
    steps_per_call: int | None = None
    micro_batches: int = 1
    gradient_norm: bool = False
    boundary: Any = field(default_factory=NoBoundary)
    position: Position = field(default_factory=Position)
    put_back: Callable[[], None] = lambda: None
    on_call: Callable[[CallResult], None] = lambda _result: None
    calls: list[CallResult] = field(default_factory=list)
    body: Callable[[TrainLoop], None] | None = None
    memory: Memory = field(default_factory=Memory)  # of the body

    def loop(self, model: Any, strategy: Any, callbacks: Sequence[Any] = ()) -> Position:
        """Train as a worker does with `train.engine: loop`."""
        place = Place(replicas=strategy.num_replicas_in_sync)
        build(model, strategy, self.dataset.sample())
        pipeline = self.dataset.training(place, micro_batches=self.micro_batches)
        evaluator = Evaluator(model, strategy, self.dataset, place)
        schedule = self._schedule(pipeline)
        hooks = keras.callbacks.CallbackList(
            list(callbacks), model=model, epochs=self.epochs, steps=schedule.steps_per_epoch
        )

        def validate(step: Any, between: Callable[[], None]) -> Any:
            return evaluator.steps(self.validation, step, callbacks=hooks, between=between)

        def compiled(step: Any) -> CompiledSteps:
            return CompiledSteps(
                model, strategy, step,
                micro_batches=self.micro_batches, gradient_norm=self.gradient_norm,
            )  # fmt: skip

        loop = TrainLoop(
            model, compiled("train_step"), schedule, self.boundary,
            callbacks=hooks, validation=validate if self.validation else None,
            on_call=self._on_call,
        )  # fmt: skip
        begin_training(hooks, schedule, self.position, self.put_back)
        iterator = iter(pipeline.dataset(self.position.step))
        records = functools.partial(records_of_step, pipeline.order)
        own = self.body and Own(self.body, compiled, records, self.memory)
        position = loop.run(self.position, iterator, own)
        end_training(model, hooks, position)
        return position

    def fit(self, model: Any, strategy: Any, callbacks: Sequence[Any] = ()) -> Position:
        """Train as a worker does with `train.engine: fit`."""
        build(model, strategy, self.dataset.sample())
        pipeline = self.dataset.training(Place())
        begin = keras.callbacks.LambdaCallback(on_train_begin=lambda _logs: self.put_back())
        return fit(
            model, pipeline,
            self.dataset.evaluation(self.validation, Place()) if self.validation else None,
            self._schedule(pipeline), self.position, callbacks=[*callbacks, begin],
            boundary=self.boundary,
        )  # fmt: skip

    def _on_call(self, result: CallResult) -> None:
        self.calls.append(result)
        self.on_call(result)

    def _schedule(self, pipeline: Pipeline) -> Schedule:
        return Schedule(self.epochs, pipeline.order.steps_per_epoch, self.steps_per_call)


def weights(model: Any) -> list[np.ndarray]:
    """Model and optimizer variables, in order."""
    return [np.asarray(v) for v in (*model.variables, *model.optimizer.variables)]


def same_weights(one: Any, other: Any) -> bool:
    """Whether two models and their optimizers are equal to the bit."""
    pairs = zip(weights(one), weights(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def distance(one: Any, other: Any) -> float:
    """The largest difference of two models' variables."""
    pairs = zip(one.variables, other.variables, strict=True)
    return max(float(np.max(np.abs(np.asarray(a) - np.asarray(b)))) for a, b in pairs)
