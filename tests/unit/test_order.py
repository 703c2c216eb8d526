"""The order of records: complete, without repeats, the same at every world size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.order import (
    EvalOrder,
    TrainOrder,
    divide,
    micro_batches,
    permutation,
    split_evenly,
)
from trainer.errors import ConfigError


def cut(num_records: int, block: int) -> tuple[tuple[int, int], ...]:
    """Blocks of consecutive records; the last may be shorter."""
    return tuple((at, min(block, num_records - at)) for at in range(0, num_records, block))


def order_of(num_records: int = 5000, block: int = 500, **changes: object) -> TrainOrder:
    """The built-in data set's order, or a change of it."""
    defaults = {"batch_size": 48, "num_streams": 8, "shuffle_blocks": 4, "seed": 7}
    return TrainOrder(blocks=cut(num_records, block), **(defaults | changes))


def epoch_ids(order: TrainOrder, epoch: int = 0) -> np.ndarray:
    """All records of an epoch in the order of its steps."""
    return np.concatenate([order.step_ids(epoch, k) for k in range(order.steps_per_epoch)])


@st.composite
def orders(draw: st.DrawFn) -> TrainOrder:
    """Any order: ragged blocks with gaps between them, any number of streams and batch."""
    counts = draw(st.lists(st.integers(1, 40), min_size=1, max_size=30))
    gaps = draw(st.lists(st.integers(0, 5), min_size=len(counts), max_size=len(counts)))
    blocks, at = [], 0
    for count, gap in zip(counts, gaps, strict=True):
        blocks.append((at + gap, count))
        at += gap + count
    streams = draw(st.integers(1, min(12, sum(counts))))
    return TrainOrder(
        blocks=tuple(blocks), num_streams=streams, batch_size=streams * draw(st.integers(1, 6)),
        shuffle_blocks=draw(st.integers(1, 5)), seed=draw(st.integers(0, 2**31 - 1)),
    )  # fmt: skip


@settings(max_examples=80, deadline=2000)
@given(orders(), st.integers(0, 3))
def test_every_record_exactly_once_an_epoch(order: TrainOrder, epoch: int) -> None:
    wanted = [first + i for first, count in order.blocks for i in range(count)]
    assert sorted(epoch_ids(order, epoch)) == wanted


@settings(max_examples=80, deadline=2000)
@given(orders())
def test_only_the_last_step_is_smaller(order: TrainOrder) -> None:
    sizes = [len(order.step_ids(0, k)) for k in range(order.steps_per_epoch)]
    assert all(size == order.batch_size for size in sizes[:-1])
    assert 0 < sizes[-1] <= order.batch_size


def test_nothing_divides_in_the_built_in_data() -> None:
    order = order_of()
    sizes = [len(order.step_ids(0, k)) for k in range(order.steps_per_epoch)]
    assert len(set(epoch_ids(order))) == 5000
    assert (sizes[:-1], sizes[-1]) == ([48] * 104, 5000 - 104 * 48)


@pytest.mark.parametrize("epoch", [0, 5])
def test_the_same_global_batches_at_every_world_size(epoch: int) -> None:
    order = order_of(1003, 50)
    for step in range(order.steps_per_epoch):
        alone = set(order.step_ids(epoch, step))
        assert all(set(order.step_ids(epoch, step, w)) == alone for w in (2, 4, 8))


@settings(max_examples=60, deadline=2000)
@given(orders(), st.sampled_from([1, 2, 4]), st.integers(1, 4), st.data())
def test_shares_of_replicas_partition_the_step(
    order: TrainOrder, workers: int, replicas: int, data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, order.steps_per_epoch - 1))
    total = workers * replicas
    (whole,) = micro_batches(order, 0, step, num_workers=workers)
    shares = divide(whole, total, range(total))
    ids = [share.ids for share in shares if share.is_counted]
    assert sorted(np.concatenate(ids)) == sorted(order.step_ids(0, step))
    assert max(map(len, ids)) - min(map(len, ids)) <= 1
    assert sum(share.weight for share in shares) == pytest.approx(total)


@pytest.mark.parametrize("parts", [1, 2, 6])
def test_a_worker_reads_its_own_streams_of_a_full_step(parts: int) -> None:
    order = order_of()
    own = {r for s in (1, 3, 5, 7) for r in order.stream_ids(0, s, 0, 10**9)}
    for step in range(order.steps_per_epoch - 1):
        for part in micro_batches(order, 0, step, parts=parts, num_workers=2):
            (share,) = divide(part, 2, range(1, 2))
            assert set(share.ids) <= own


@pytest.mark.parametrize("parts", [2, 3])
def test_micro_batches_are_the_same_at_every_world_size(parts: int) -> None:
    order = order_of(1003, 50)
    for step in range(order.steps_per_epoch):
        alone, *others = (
            [set(part.ids) for part in micro_batches(order, 1, step, parts=parts, num_workers=w)]
            for w in (1, 2, 4, 8)
        )
        assert all(other == alone for other in others)
        assert set.union(*alone) == set(order.step_ids(1, step))


@settings(max_examples=60, deadline=2000)
@given(orders(), st.data())
def test_a_stream_cut_anywhere_is_the_same_stream(order: TrainOrder, data: st.DataObject) -> None:
    stream = data.draw(st.integers(0, order.num_streams - 1))
    whole = order.stream_ids(1, stream, 0, 10**6)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    parts = [
        order.stream_ids(1, stream, a, b)
        for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)
    ]
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_step_is_the_same_whatever_was_read_before() -> None:
    late = order_of().step_ids(3, 77)
    reader = order_of()
    for epoch in range(3):
        epoch_ids(reader, epoch)
    assert np.array_equal(reader.step_ids(3, 77), late)


def test_epochs_and_seeds_differ() -> None:
    ids = [epoch_ids(order_of(), 0), epoch_ids(order_of(), 1), epoch_ids(order_of(seed=8), 0)]
    # Records at the same place by chance: about one.
    assert all(np.mean(a == b) < 0.01 for a, b in [(ids[0], ids[1]), (ids[0], ids[2])])


def test_drop_leaves_full_steps_only_and_counts_their_records() -> None:
    order = order_of(drop_last=True)
    sizes = {len(order.step_ids(0, k)) for k in range(order.steps_per_epoch)}
    assert (sizes, order.steps_per_epoch, order.num_records) == ({48}, 104, 104 * 48)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_records": 5, "block": 2}, "5 records cannot feed 8 streams"),
        ({"num_records": 40, "drop_last": True}, "drop leaves no step of 48 among 40 records"),
    ],
)
def test_impossible_orders_are_refused(changes: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        order_of(**changes)


# Frozen: runs in progress would change their order of records if one of these changed.
GOLDEN_PERMUTATION = [1, 8, 2, 15, 4, 14, 6, 5, 17, 0, 9, 18, 7, 13, 16, 10, 3, 12, 19, 11]
GOLDEN_STEP = [
    4080, 4094, 3825, 3682, 4008, 3633, 3102, 4152, 4236, 3048,
    4424, 4415, 1547, 3341, 3356, 1647, 1862, 1761, 4601, 4537,
]  # fmt: skip


def test_permutation_never_changes() -> None:
    assert permutation(20, 1, 2, 3).tolist() == GOLDEN_PERMUTATION


def test_order_never_changes() -> None:
    assert order_of().step_ids(2, 50)[:20].tolist() == GOLDEN_STEP


@pytest.fixture(scope="module")
def shuffles() -> list[np.ndarray]:
    """Epochs of 100,000 records in blocks of 500, windows of 4 and 8 streams: the defaults."""
    return [epoch_ids(order_of(100_000, seed=seed, batch_size=64)) for seed in range(12)]


def test_shuffle_leaves_no_trend(shuffles: list[np.ndarray]) -> None:
    found = [np.corrcoef(np.arange(len(ids)), ids)[0, 1] for ids in shuffles]
    # 200 blocks in random places correlate by about 1 / sqrt(200) = 0.07 in one epoch.
    assert max(map(abs, found)) < 0.25
    assert abs(np.mean(found)) < 0.07


def test_shuffle_parts_neighbours(shuffles: list[np.ndarray]) -> None:
    # Independent ones differ by a third of the records on average; here they may share a block.
    distances = [np.abs(np.diff(ids)).mean() * 3 / len(ids) for ids in shuffles]
    assert min(distances) > 0.7


def test_a_step_mixes_sorted_classes(shuffles: list[np.ndarray]) -> None:
    """Records sorted by 10 classes: most steps of 64 hold nearly all of them."""
    classes = [
        len(set(step // 10_000)) for ids in shuffles for step in np.split(ids[: 1562 * 64], 1562)
    ]
    assert np.mean(classes) > 9


@settings(max_examples=50, deadline=1000)
@given(st.integers(0, 1000), st.integers(1, 300), st.integers(1, 64))
def test_evaluation_reads_every_record_once_in_order(first: int, num: int, batch: int) -> None:
    order = EvalOrder(first, num, batch)
    steps = [order.step_ids(0, k) for k in range(order.steps_per_epoch)]
    assert np.concatenate(steps).tolist() == list(range(first, first + num))
    assert all(len(step) == batch for step in steps[:-1])


@given(st.integers(0, 50), st.integers(1, 12))
def test_split_evenly_partitions(size: int, parts: int) -> None:
    pieces = [split_evenly(np.arange(size), parts, part) for part in range(parts)]
    assert np.concatenate(pieces).tolist() == list(range(size))
