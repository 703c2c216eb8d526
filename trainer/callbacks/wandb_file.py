"""What a file of W&B's holds already, in which a run without a network is kept.

W&B's program writes whole blocks of 32 KiB, and what it has of the next one is lost in a kill: many
minutes of a run, maybe all of it. So only what is read back here is known to be kept.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 1 << 15
_FILE_HEADER = 7
_HEADER = struct.Struct("<IHB")  # checksum, length, and which part of a record it is
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


class WandbFile:
    """Reads on where it stopped, while the file grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = _FILE_HEADER
        self._parts = b""
        self._last_step = -1

    def records(self) -> Iterator[bytes]:
        """Those that are whole, in W&B's protocol, since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except OSError:
            return
        start, at = self._at, 0
        while True:
            left = _BLOCK - (start + at) % _BLOCK
            if left < _HEADER.size:
                at += left  # filled up
            if at + _HEADER.size > len(data):
                return
            _, length, part = _HEADER.unpack_from(data, at)
            end = at + _HEADER.size + length
            if not _WHOLE <= part <= _LAST or end > len(data):
                return
            if part in (_WHOLE, _FIRST):
                self._parts = b""
            self._parts += data[at + _HEADER.size : end]
            at = end
            self._at = start + at
            if part in (_WHOLE, _LAST):
                yield self._parts

    def last_step(self) -> int:
        """The greatest that has a row there; -1 without one."""
        from wandb.proto.wandb_internal_pb2 import Record

        for data in self.records():
            record = Record.FromString(data)
            if record.HasField("history"):
                self._last_step = max(self._last_step, record.history.step.num)
        return self._last_step
