"""The framing of TFRecord files, without TensorFlow.

A record is its payload's length (8 bytes, little-endian), that length's CRC (4), the payload,
and the payload's CRC (4). Both CRCs are CRC-32C, masked as TensorFlow does it. An index holds
for every record where it begins (8 bytes) and, after all of these, the CRC-32C of all before it
(4); both once more for the end of the file. So consecutive records are checked at once: the CRC
of what is before them, continued over them, is that of what ends with them.
"""

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

import google_crc32c
import numpy as np
from numpy.typing import NDArray

Offsets = NDArray[np.int64]
Crcs = NDArray[np.uint32]

HEADER_BYTES = 12
FOOTER_BYTES = 4
OVERHEAD_BYTES = HEADER_BYTES + FOOTER_BYTES
INDEX_ENTRY_BYTES = 8 + 4

_CHUNK_BYTES = 8 << 20
_MASK_DELTA = 0xA282EAD8
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")

BAD_LENGTH = "the CRC of its length does not match"
BAD_PAYLOAD = "the CRC of its payload does not match"
BAD_FRAME = "its length contradicts the index"
TRUNCATED = "the file ends inside it"


def checksum(data: bytes) -> str:
    """CRC-32C of `data` as 8 hexadecimal digits: the form in which manifests hold it."""
    return f"{google_crc32c.value(data):08x}"


def masked_crc32c(data: bytes) -> int:
    """CRC-32C of `data`, rotated and offset as TFRecord files hold it."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def frame(payload: bytes) -> bytes:
    """One record as it stands in a file."""
    length = struct.pack("<Q", len(payload))
    header = length + _FOOTER.pack(masked_crc32c(length))
    return header + payload + _FOOTER.pack(masked_crc32c(payload))


@dataclass(frozen=True)
class Index:
    """Where records begin and, last, end: `offsets`, and the `crcs` of all before; each [n + 1]."""

    offsets: Offsets
    crcs: Crcs

    def part(self, start: int, num_records: int) -> "Index":
        """That of records from `start` on, up to so many."""
        stop = start + num_records + 1
        return Index(self.offsets[start:stop], self.crcs[start:stop])


def encode_index(index: Index) -> bytes:
    """The bytes of an index file."""
    return index.offsets.astype("<u8").tobytes() + index.crcs.astype("<u4").tobytes()


def decode_index(data: bytes, *, num_records: int, size_bytes: int) -> Index | None:
    """The index of a file of so many records and bytes; None when it cannot be that."""
    count = num_records + 1
    if len(data) != INDEX_ENTRY_BYTES * count:
        return None
    offsets = np.frombuffer(data, "<u8", count).astype(np.int64)
    is_whole = offsets[0] == 0 and offsets[-1] == size_bytes
    if not is_whole or (np.diff(offsets) < OVERHEAD_BYTES).any():
        return None
    return Index(offsets, np.frombuffer(data, "<u4", count, 8 * count).astype(np.uint32))


def cut_records(data: bytes, offsets: Offsets) -> Iterator[bytes]:
    """The payloads of consecutive records, which begin and end at `offsets` [n + 1] of a file."""
    # No loop in Python: it would cost as much as all the rest.
    starts = offsets[:-1] + (HEADER_BYTES - offsets[0])
    stops = offsets[1:] - (FOOTER_BYTES + offsets[0])
    return map(data.__getitem__, map(slice, starts.tolist(), stops.tolist()))


def check_records(data: bytes, index: Index) -> dict[int, str]:
    """What is wrong with each bad one of consecutive records, by its position among them.

    `index` is their part of a file's; `data` may be shorter than it tells. They are looked at one
    by one only if together they are not what they were when the index was made.
    """
    offsets = index.offsets - index.offsets[0]
    before, whole = index.crcs[[0, -1]].tolist()
    if len(data) == offsets[-1] and google_crc32c.extend(before, data) == whole:
        return {}
    return _check_each(data, offsets)


def _check_each(data: bytes, offsets: Offsets) -> dict[int, str]:
    payloads = list(cut_records(data, offsets))
    num_whole = int(np.searchsorted(offsets[1:], len(data), side="right"))
    starts = offsets[:num_whole]
    stops = offsets[1 : num_whole + 1]

    raw = np.frombuffer(data, np.uint8)
    lengths = _gather(raw, starts, 8)
    length_crcs = _gather(raw, starts + 8, 4).view("<u4")[:, 0]
    crcs = _gather(raw, stops - FOOTER_BYTES, 4).view("<u4")[:, 0]
    good_length = _masked(_crcs_of_lengths(lengths)) == length_crcs
    good_frame = lengths.view("<u8")[:, 0] == (stops - starts - OVERHEAD_BYTES).astype(np.uint64)
    found = np.fromiter(map(google_crc32c.value, payloads[:num_whole]), np.uint32, num_whole)
    good_payload = _masked(found) == crcs

    bad = dict.fromkeys(range(num_whole, len(payloads)), TRUNCATED)
    # Later reasons win: a damaged length explains a wrong frame.
    for good, reason in (
        (good_payload, BAD_PAYLOAD),
        (good_frame, BAD_FRAME),
        (good_length, BAD_LENGTH),
    ):
        if not good.all():
            bad.update(dict.fromkeys(np.flatnonzero(~good).tolist(), reason))
    return bad


def _gather(raw: NDArray[np.uint8], at: Offsets, width: int) -> NDArray[np.uint8]:
    return raw[at[:, None] + np.arange(width)]


def _crcs_of_lengths(lengths: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """CRC-32C of each row of uint8 [n, 8]. It is linear: each byte has its own share in it."""
    table, of_zeros = _crc_shares()
    shares: NDArray[np.uint32] = np.bitwise_xor.reduce(table[np.arange(8), lengths], axis=1)
    return shares ^ of_zeros


@cache
def _crc_shares() -> tuple[NDArray[np.uint32], np.uint32]:
    """What byte values at places 0 to 7 change in the CRC of eight zeros, uint32 [8, 256]."""
    of_zeros = google_crc32c.value(bytes(8))
    values = [
        google_crc32c.value(bytes(at) + bytes([byte]) + bytes(7 - at)) ^ of_zeros
        for at in range(8)
        for byte in range(256)
    ]
    return np.array(values, np.uint32).reshape(8, 256), np.uint32(of_zeros)


def _masked(crc: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(_MASK_DELTA)


@dataclass
class Scan:
    """What a pass over a whole file found.

    `index` is right where nothing is bad; `bad` pairs a byte offset with what is wrong there.
    """

    index: Index
    checksum: str
    bad: list[tuple[int, str]] = field(default_factory=list)


def scan(
    read: Callable[[int, int], bytes], size_bytes: int, *, known: Offsets | None = None
) -> Scan:
    """Find and check every record of a file of `size_bytes`.

    `read(start, length)` returns bytes of the file. After a damaged length the records cannot be
    found any more: the pass goes on at the next of the `known` offsets, or ends there.
    """
    window = _Window(read, size_bytes)
    bad: list[tuple[int, str]] = []
    walk = _walk(window, bad, None if known is None else known.tolist())
    offsets, crcs = np.array(list(walk), np.int64).T
    return Scan(Index(offsets.copy(), crcs.astype(np.uint32)), window.finish(), bad)


def _walk(
    window: "_Window", bad: list[tuple[int, str]], known: list[int] | None
) -> Iterator[tuple[int, int]]:
    """Where each record begins, and the CRC of all before it; both for the end of the file, too."""
    at = crc = 0
    while at < window.size:
        yield at, crc
        header = window.take(at, HEADER_BYTES)
        reason = None
        if len(header) < HEADER_BYTES:
            reason = TRUNCATED
        else:
            length, length_crc = _HEADER.unpack(header)
            if masked_crc32c(header[:8]) != length_crc:
                reason = BAD_LENGTH
            elif at + OVERHEAD_BYTES + length > window.size:
                reason = TRUNCATED
        if reason is not None:
            bad.append((at, reason))
            at = _next_known(known, at, window.size)
            continue
        body = window.take(at + HEADER_BYTES, length + FOOTER_BYTES)
        payload, footer = body[:length], body[length:]
        if len(footer) < FOOTER_BYTES:
            bad.append((at, TRUNCATED))
        elif masked_crc32c(payload) != _FOOTER.unpack(footer)[0]:
            bad.append((at, BAD_PAYLOAD))
        crc = google_crc32c.extend(google_crc32c.extend(crc, header), body)
        at += OVERHEAD_BYTES + length
    yield window.size, crc


def _next_known(known: list[int] | None, at: int, end: int) -> int:
    following = bisect_right(known, at) if known else 0
    return known[following] if known and following < len(known) else end


class _Window:
    """A moving view of a file, read forward in large pieces and checksummed on the way."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self.size = size
        self._read = read
        self._start = 0
        self._data = b""
        self._crc = 0

    def take(self, at: int, length: int) -> bytes:
        """Bytes [at, at + length), fewer at the end of the file."""
        if at + length > self._start + len(self._data):
            self._data = self._data[at - self._start :] if at < self._end else self._skip_to(at)
            self._start = at
            missing = length - len(self._data)
            if missing > 0:
                self._data += self._fetch(at + len(self._data), max(missing, _CHUNK_BYTES))
        return self._data[at - self._start : at - self._start + length]

    def finish(self) -> str:
        """Read to the end; the checksum of the whole file."""
        self._skip_to(self.size)
        return f"{self._crc:08x}"

    @property
    def _end(self) -> int:
        return self._start + len(self._data)

    def _skip_to(self, at: int) -> bytes:
        while self._end < at:
            self._start = self._end
            self._data = self._fetch(self._start, min(_CHUNK_BYTES, at - self._start))
            if not self._data:
                break
        return b""

    def _fetch(self, start: int, length: int) -> bytes:
        data = self._read(start, min(length, self.size - start))
        self._crc = google_crc32c.extend(self._crc, data)
        return data
