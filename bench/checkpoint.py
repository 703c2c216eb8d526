"""A checkpoint of 500 MB, into a folder and into a bucket of an emulator on this machine.

Compared with the plain way of moving the same bytes: one file that is written and synced, and read
with its sha256; or google-cloud-storage alone, with the same parts on as many threads.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from google.cloud import storage

from bench.pairs import Result, median_ratio, noise_floor, run_alone, take_turns, timed
from bench.save import AIM_COPY, Saves, model_of
from tests.emulator import emulator
from trainer.checkpoint.restore import newest
from trainer.checkpoint.state import ModelState
from trainer.storage import open_storage
from trainer.storage.parallel import NUM_THREADS

STATE_BYTES = 500e6
# Into a folder each byte is read back, too, and hashed twice.
AIM_TOTAL = {"local": 3.0, "gs": 1.5}
AIM_RESTORE = 1.5
AIM_BYTES = 1.01
ROUNDS = 5
TOOLS = Path(__file__).parents[1] / ".tools"  # where `make tools` builds


@dataclass(frozen=True)
class Place:
    """Where checkpoints go, and how the same parts go there and come back without us."""

    name: str
    url: str
    write: Callable[[Sequence[bytes]], Any]
    read: Callable[[], Any]


def measure() -> list[Result]:
    """Blocked, total, bytes and restore, in each place."""
    model = model_of(STATE_BYTES)
    state = ModelState(model)
    arrays = [np.asarray(v.value) for v in [*model.variables, *model.optimizer.variables]]
    with tempfile.TemporaryDirectory(prefix="bench-checkpoint-") as folder:
        results = _results(_folder(Path(folder)), state, arrays)
        os.environ["PATH"] += f":{TOOLS}"
        if shutil.which("fake-gcs-server") is None:
            print("left out for want of fake-gcs-server: *_gs; make tools", file=sys.stderr)
            return results
        with _bucket(Path(folder, "buckets")) as bucket:
            return results + _results(bucket, state, arrays)


def _results(place: Place, state: ModelState, arrays: Sequence[Any]) -> list[Result]:
    saves = Saves(state, place.url, in_background=True)
    saves.committed()
    parts, size = _parts(place.url), sum(array.nbytes for array in arrays)
    blocked: dict[str, list[float]] = {"ours": [], "ours again": []}

    def save(name: str) -> float:
        seconds, total = saves.committed()
        blocked[name].append(seconds)
        return total

    copies = [array.copy() for array in arrays]
    total = take_turns(
        {
            "ours": lambda: save("ours"),
            "plain": lambda: timed(lambda: place.write(parts)),
            "copy": lambda: timed(lambda: _copy(arrays, copies)),
            "ours again": lambda: save("ours again"),
        },
        rounds=ROUNDS, warm_ups=1,
    )  # fmt: skip
    restore = take_turns(
        {
            "ours": lambda: timed(lambda: newest(saves.store)),
            "plain": lambda: timed(place.read),
            "ours again": lambda: timed(lambda: newest(saves.store)),
        },
        rounds=ROUNDS, warm_ups=1,
    )  # fmt: skip
    (found,) = saves.store.all()
    written = saves.store.stored_bytes(found.name)
    blocked = {name: values[-ROUNDS:] for name, values in blocked.items()}
    return [
        _result(f"checkpoint_blocked_{place.name}", blocked, total["copy"], AIM_COPY),
        _result(f"checkpoint_total_{place.name}", total, total["plain"], AIM_TOTAL[place.name]),
        Result(
            f"checkpoint_bytes_{place.name}", written / size, 0.0, AIM_BYTES, "lower",
            {"state": f"{size / 1e6:.1f} MB in {len(arrays)} arrays", "parts": len(parts)},
        ),
        _result(f"checkpoint_restore_{place.name}", restore, restore["plain"], AIM_RESTORE),
    ]  # fmt: skip


def _result(name: str, ours: dict[str, list[float]], plain: Sequence[float], aim: float) -> Result:
    return Result(
        name, median_ratio(ours["ours"], plain), noise_floor(ours["ours"], ours["ours again"]),
        aim, "lower",
        {"ours": f"{median(ours['ours']):.3f} s", "plain": f"{median(plain):.3f} s"},
    )  # fmt: skip


def _copy(arrays: Sequence[Any], into: Sequence[Any]) -> None:
    for array, copy in zip(arrays, into, strict=True):
        np.copyto(copy, array)


def _parts(url: str) -> list[bytes]:
    """The files of arrays that a save has left."""
    root = open_storage(url)
    return [root.read(entry.path) for entry in root.list() if "part-" in entry.path]


def _folder(folder: Path) -> Place:
    file = folder / "plain"

    def write(parts: Sequence[bytes]) -> None:
        with file.open("wb") as stream:
            for part in parts:
                stream.write(part)
            stream.flush()
            os.fsync(stream.fileno())

    def read() -> None:
        with file.open("rb") as stream:
            hashlib.file_digest(stream, "sha256")

    return Place("local", f"{folder}/checkpoints", write, read)


@contextmanager
def _bucket(folder: Path) -> Iterator[Place]:
    folder.mkdir()
    with emulator(folder) as server, ThreadPoolExecutor(NUM_THREADS) as pool:
        server.make_bucket("bench")
        os.environ |= server.environment()
        bucket = storage.Client(project="none").bucket("bench")

        def upload(name: str, part: bytes) -> None:
            bucket.blob(name).upload_from_string(part)

        def write(parts: Sequence[bytes]) -> None:
            names = [f"plain/{number}" for number in range(len(parts))]
            list(pool.map(upload, names, parts))

        def read() -> None:
            blobs = list(bucket.list_blobs(prefix="plain/"))
            list(pool.map(lambda blob: blob.download_as_bytes(), blobs))

        yield Place("gs", "gs://bench/checkpoints", write, read)


MEASURES = dict.fromkeys(
    (
        f"checkpoint_{what}_{place}"
        for place in ("local", "gs")
        for what in ("blocked", "total", "bytes", "restore")
    ),
    measure,
)

if __name__ == "__main__":
    run_alone(MEASURES, about=__doc__)
