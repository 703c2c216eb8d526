"""Records of a block are checked together, and one by one only where that shows damage."""

from dataclasses import replace

import numpy as np
import pytest

from tests.small_data import payload
from trainer.data.tfrecord import (
    BAD_PAYLOAD,
    TRUNCATED,
    Index,
    check_records,
    cut_records,
    decode_index,
    encode_index,
    frame,
    scan,
)

COUNT = 9
SHARD = b"".join(frame(payload(number)) for number in range(COUNT))


def index_of(data: bytes) -> Index:
    return scan(lambda start, length: data[start : start + length], len(data)).index


INDEX = index_of(SHARD)


def block(data: bytes, part: Index) -> bytes:
    return data[int(part.offsets[0]) : int(part.offsets[-1])]


@pytest.mark.parametrize(("start", "count"), [(0, COUNT), (0, 1), (3, 4), (8, 1), (5, 100)])
def test_any_records_of_a_shard(start: int, count: int) -> None:
    part = INDEX.part(start, count)
    data = block(SHARD, part)
    assert check_records(data, part) == {}
    wanted = [payload(number) for number in range(start, min(start + count, COUNT))]
    assert list(cut_records(data, part.offsets)) == wanted


@pytest.mark.parametrize(("start", "count"), [(0, COUNT), (3, 4)])
def test_f36_any_flipped_bit_is_found_in_its_record(start: int, count: int) -> None:
    part = INDEX.part(start, count)
    good = block(SHARD, part)
    for at in range(len(good)):
        flipped = good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :]
        assert list(check_records(flipped, part)) == [
            np.searchsorted(part.offsets - part.offsets[0], at, "right") - 1
        ]


def test_f36_a_block_that_ends_too_early() -> None:
    assert check_records(SHARD[:-1], INDEX) == {COUNT - 1: TRUNCATED}


def test_an_undamaged_block_is_not_checked_by_record() -> None:
    # As no index is ever made of it: one by one, the first would be refused.
    strange = SHARD[:12] + bytes([SHARD[12] ^ 1]) + SHARD[13:]
    assert check_records(strange, INDEX) == {0: BAD_PAYLOAD}
    assert check_records(strange, index_of(strange)) == {}


def test_wrong_crcs_in_an_index_leave_good_records_good() -> None:
    wrong = replace(INDEX, crcs=INDEX.crcs ^ np.uint32(1))
    assert check_records(SHARD, wrong) == {}


def test_an_index_is_read_as_it_was_written() -> None:
    data = encode_index(INDEX)
    found = decode_index(data, num_records=COUNT, size_bytes=len(SHARD))
    assert found is not None
    assert np.array_equal(found.offsets, INDEX.offsets)
    assert np.array_equal(found.crcs, INDEX.crcs)
    assert decode_index(data[:-1], num_records=COUNT, size_bytes=len(SHARD)) is None
