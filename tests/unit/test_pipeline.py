"""Batches by step: the same from memory and stream, at any world size, from any step on."""

from collections import Counter
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.small_training import FEATURES, as_pair, dataset_of, values, write_vectors
from trainer.data.pipeline import Pipeline, Place
from trainer.data.spec import DataSpec

STEPS, LAST = 4, 53 - 3 * 16  # of an epoch of the small data set
BUILT_IN = "builtin:fashion_mnist"


def image_and_label(features: dict[str, Any]) -> tuple[Any, Any]:
    return features["image"], features["label"]


def jitter(example: tuple[Any, Any], seed: Any) -> tuple[Any, Any]:
    """Noise that belongs to (seed, epoch, record)."""
    x, y = example
    return x + tf.random.stateless_uniform([4], seed), y


def steps_of(pipeline: Pipeline, num_steps: int, start: int = 0) -> list[list[Any]]:
    """A list a step of one (x, y, shares) a replica, as numpy."""
    elements = iter(pipeline.dataset(start))
    return [
        [flat(next(elements)) for _ in range(pipeline.place.replicas)] for _ in range(num_steps)
    ]


def flat(element: Any) -> tuple[np.ndarray, ...]:
    (x, y), shares = element
    return x.numpy(), y.numpy(), shares.numpy()


def split(element: tuple[np.ndarray, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(x, share) of each micro-batch of an element."""
    x, _, shares = element
    ends = np.cumsum(shares[:, 2]).astype(int)
    return list(zip(np.split(x, ends[:-1]), shares, strict=True))


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_micro_batches_hold_the_same_records_on_all_replicas(vectors: str, replicas: int) -> None:
    """Which is what batch normalization needs, also in the last step of 5 records."""
    dataset = dataset_of(vectors)
    steps = {
        n: steps_of(dataset.training(Place(replicas=n), micro_batches=2), STEPS)
        for n in (1, replicas)
    }
    sets = {
        n: [
            [
                sorted({row.tobytes() for x, _ in parts for row in x})
                for parts in zip(*map(split, step), strict=True)
            ]
            for step in found
        ]
        for n, found in steps.items()
    }
    assert sets[replicas] == sets[1]
    assert all(not set(one) & set(other) for one, other in sets[1])


def equal(one: list[list[Any]], other: list[list[Any]]) -> bool:
    """Whether two lists of steps are equal to the bit, in values, shapes and dtypes."""
    pairs = zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def rows(steps: list[list[Any]]) -> list[list[bytes]]:
    """The examples of each step, sorted: what the step holds, whoever reads it."""
    return [sorted(x.tobytes() for replica in step for x in replica[0]) for step in steps]


@pytest.mark.parametrize("augment", [None, jitter])
def test_memory_and_stream_give_the_same_batches(vectors: str, augment: Any) -> None:
    spec = DataSpec(as_pair, augment)
    found = [
        steps_of(dataset_of(vectors, spec, cache=cache).training(Place()), 2 * STEPS + 1)
        for cache in ("memory", "stream")
    ]
    assert equal(*found)


def test_memory_and_stream_give_the_same_images() -> None:
    config = {"batch_size": 512, "streams": 8, "block_records": 500}
    found = [
        steps_of(
            dataset_of(BUILT_IN, DataSpec(image_and_label), cache=cache, **config).training(
                Place()
            ),
            10,
        )
        for cache in ("memory", "stream")
    ]
    assert equal(*found)
    assert len(found[0][9][0][0]) == 5000 - 9 * 512


def test_batches_hold_the_records_of_the_order(vectors: str) -> None:
    pipeline = dataset_of(vectors).training(Place())
    for step, [(x, y, _)] in enumerate(steps_of(pipeline, STEPS)):
        wanted = [values(i) for i in pipeline.order.step_ids(0, step)]
        assert np.array_equal(x, [record["x"] for record in wanted])
        assert np.array_equal(y, [record["y"] for record in wanted])


@pytest.mark.parametrize(
    ("cache", "start"),
    [("stream", 1), ("stream", STEPS - 1), ("stream", STEPS), ("stream", 50 * STEPS + 2),
     ("memory", 2 * STEPS + 3)],
)  # fmt: skip
def test_a_start_at_any_step_reads_what_follows(vectors: str, cache: str, start: int) -> None:
    pipeline = dataset_of(vectors, DataSpec(as_pair, jitter), cache=cache).training(Place())
    from_before = steps_of(pipeline, 7, start - 1)
    assert equal(steps_of(pipeline, 6, start), from_before[1:])


@pytest.mark.parametrize("chunk_steps", [1, 3, 100])
@pytest.mark.parametrize(("cache", "size"), [("stream", ""), ("memory", "_IN_MEMORY")])
def test_chunks_leave_no_trace(
    vectors: str, cache: str, size: str, chunk_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = dataset_of(vectors, cache=cache)
    wanted = steps_of(dataset.training(Place()), 10, 2)
    monkeypatch.setattr(f"trainer.data.pipeline._CHUNK_STEPS{size}", chunk_steps)
    assert equal(steps_of(dataset.training(Place()), 10, 2), wanted)


@pytest.mark.parametrize(
    ("split", "replicas", "size"),
    [("train[:32]", 1, 16), ("train[:32]", 2, 8), ("train[:32]", 3, None), ("train[:33]", 1, None)],
)
@pytest.mark.parametrize("cache", ["stream", "memory"])
def test_batches_that_are_always_full_have_a_static_size(
    vectors: str, cache: str, split: str, replicas: int, size: int | None
) -> None:
    pipeline = dataset_of(vectors, cache=cache, train=split).training(Place(replicas=replicas))
    (x, y), _share = pipeline.dataset().element_spec
    assert (x.shape[0], y.shape[0]) == (size, size)


@pytest.mark.parametrize(("workers", "replicas"), [(1, 2), (1, 3), (2, 1), (2, 2), (4, 1)])
def test_every_world_size_sees_the_same_augmented_steps(
    vectors: str, workers: int, replicas: int
) -> None:
    # Three replicas do not divide 16 either: shares of 5, 5 and 6.
    dataset = dataset_of(vectors, DataSpec(as_pair, jitter))
    alone = steps_of(dataset.training(Place()), 2 * STEPS)
    shares = [
        steps_of(dataset.training(Place(worker, workers, replicas)), 2 * STEPS)
        for worker in range(workers)
    ]
    together = [
        [element for share in step for element in share] for step in zip(*shares, strict=True)
    ]
    assert rows(together) == rows(alone)


def test_an_epoch_is_augmented_anew(vectors: str) -> None:
    dataset = dataset_of(vectors, DataSpec(as_pair, jitter))
    epochs = steps_of(dataset.training(Place()), 2 * STEPS)
    noise = [
        {row for step in rows(part) for row in step} for part in (epochs[:STEPS], epochs[STEPS:])
    ]
    assert not noise[0] & noise[1]


def test_the_last_step_keeps_its_true_size(vectors: str) -> None:
    steps = steps_of(dataset_of(vectors).training(Place()), STEPS + 1)
    assert [len(x) for [(x, _, _)] in steps] == [16, 16, 16, LAST, 16]


def test_shares_weigh_records_equally(vectors: str) -> None:
    *full, last = steps_of(dataset_of(vectors).training(Place(replicas=2)), STEPS)
    assert all(shares.tolist() == [[1, 1, 8]] for step in full for _, _, shares in step)
    # 5 records on 2 replicas: each replica's mean times its weight, over 2, is a fifth a record.
    sizes = np.array([len(x) for x, _, _ in last])
    assert sorted(sizes) == [2, 3]
    assert np.allclose(
        [shares[0][0] / n / 2 for n, (_, _, shares) in zip(sizes, last, strict=True)], 1 / 5
    )


@pytest.mark.parametrize(
    ("records", "replicas", "cache", "parts"),
    [
        (1, 2, "memory", 1), (1, 3, "stream", 1), (2, 3, "stream", 1), (3, 4, "memory", 1),
        (7, 16, "stream", 1), (1, 1, "memory", 2), (3, 2, "stream", 4), (5, 4, "memory", 4),
        (13, 3, "memory", 2), (16, 2, "stream", 4),
    ],
)  # fmt: skip
def test_every_record_of_a_smaller_step_weighs_the_same(
    tmp_path: Any, records: int, replicas: int, cache: str, parts: int
) -> None:
    """No part is without a record, the mean is that of the records, each is counted once."""
    url = write_vectors(tmp_path, {"train": [16 + records]})
    dataset = dataset_of(url, cache=cache)
    pipeline = dataset.training(Place(replicas=replicas), micro_batches=parts)
    last = steps_of(pipeline, 1, 1)[0]
    weight: dict[bytes, float] = {}
    counted = []
    for part, (share, is_counted, size) in chain.from_iterable(map(split, last)):
        assert len(part) == size > 0
        for row in part:
            weight[row.tobytes()] = weight.get(row.tobytes(), 0) + share / size / replicas / parts
        counted += [row.tobytes() for row in part if is_counted]
    assert np.allclose(list(weight.values()), 1 / records)
    assert (sorted(counted), len(weight)) == (sorted(weight), records)


class Counted:
    """An order that counts how often each step is asked for."""

    def __init__(self, order: Any) -> None:
        self._order = order
        self.asked: Counter[tuple[int, int]] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._order, name)

    def step_ids(self, epoch: int, step: int, num_workers: int = 1) -> Any:
        self.asked[epoch, step] += 1
        return self._order.step_ids(epoch, step, num_workers)


def test_each_step_is_planned_once(vectors: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.data.pipeline._CHUNK_STEPS", 1)
    pipeline = dataset_of(vectors, cache="stream").training(Place())
    order = Counted(pipeline.order)
    for _ in replace(pipeline, order=order).dataset(num_passes=6):
        pass
    assert {order.asked[epoch, step] for epoch in range(1, 6) for step in range(STEPS)} == {1}


def test_evaluation_ends_after_every_record_once(vectors: str) -> None:
    pipeline = dataset_of(vectors, eval_batch_size=8).evaluation("test", Place())
    batches = [flat(element)[0] for element in pipeline.dataset(num_passes=1)]
    assert [len(x) for x in batches] == [8, 8, 5]
    assert np.array_equal(np.concatenate(batches), [values(i)["x"] for i in range(21)])


@pytest.mark.parametrize(("workers", "batch"), [(2, 4), (3, 6), (3, 9)])
def test_workers_share_an_evaluation_and_count_each_record_once(
    vectors: str, workers: int, batch: int
) -> None:
    dataset = dataset_of(vectors, eval_batch_size=batch)
    counted: Counter[tuple[float, ...]] = Counter()
    for worker in range(workers):
        pipeline = dataset.evaluation("test", Place(worker, workers))
        for x, _, shares in map(flat, pipeline.dataset(num_passes=1)):
            assert len(x) <= batch / workers
            if shares[0, 1]:
                counted.update(map(tuple, x.tolist()))
    assert counted == Counter(tuple(values(i)["x"].tolist()) for i in range(21))


def test_training_is_endless_and_passes_are_counted(vectors: str) -> None:
    pipeline = dataset_of(vectors).training(Place())
    assert len(list(pipeline.dataset(3 * STEPS - 2, num_passes=4))) == STEPS + 2
    assert len(list(pipeline.dataset(0).take(9 * STEPS))) == 9 * STEPS


def test_drop_never_shows_a_smaller_step(vectors: str) -> None:
    pipeline = dataset_of(vectors, last_batch="drop").training(Place())
    assert {len(x) for [(x, _, _)] in steps_of(pipeline, 10)} == {16}
    assert pipeline.order.steps_per_epoch == STEPS - 1


def test_a_weighted_example_passes_through(vectors: str) -> None:
    spec = DataSpec(lambda f: (f["x"], f["y"], tf.cast(f["y"], tf.float32)))
    (_, y, weight), _ = next(iter(dataset_of(vectors, spec).training(Place()).dataset()))
    assert np.array_equal(y.numpy(), weight.numpy())


@pytest.mark.parametrize("function", [as_pair, jitter])
def test_a_map_is_the_same_eagerly_and_in_a_graph(function: Any) -> None:
    record = FEATURES.serialize_example(values(4))

    def mapped(payload: Any) -> Any:
        example = as_pair(FEATURES.deserialize_example(payload))
        return example if function is as_pair else jitter(example, tf.constant([1, 2]))

    eager, graph = mapped(tf.constant(record)), tf.function(mapped)(tf.constant(record))
    assert all(np.array_equal(a, b) for a, b in zip(eager, graph, strict=True))
