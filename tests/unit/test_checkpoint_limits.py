"""What a save refuses because a read would, and markers that are not what they should be."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.small_storage import MemoryStorage
from tests.unit.test_checkpoint_store import FILES, FOLDER, arrays_of, save, store_of
from trainer.checkpoint.format import encode_manifest
from trainer.checkpoint.restore import newest
from trainer.checkpoint.store import CheckpointStore
from trainer.errors import CheckpointError, ConfigError
from trainer.storage import open_storage


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros(2, np.complex64), "model/0/w has dtype complex64, .* use one of bool, int8"),
        (np.asarray(["a"]), "model/0/w has dtype str32"),
        (np.broadcast_to(np.uint8(0), (1 << 36,)), "model/0/w has 68719476736 bytes"),
    ],
    ids=["complex", "text", "large"],
)
def test_an_array_that_cannot_be_read_is_not_saved(array: Any, said: str) -> None:
    storage = MemoryStorage()
    with pytest.raises(ConfigError, match=said):
        store_of(storage).save(1, {"model/0/w": array}, state={}, metrics={})
    assert storage.objects == {}


def test_a_callback_state_that_cannot_be_read_is_not_saved() -> None:
    storage = MemoryStorage()
    state = {"callbacks": {"Small": {}, "Large": "x" * (70 << 20)}}
    said = "callback Large alone takes 73400322; let get_state return .* numpy arrays"
    with pytest.raises(ConfigError, match=said):
        store_of(storage).save(1, arrays_of(1), state=state, metrics={})
    assert storage.objects == {}


def test_a_manifest_that_is_refused_is_not_encoded() -> None:
    storage = MemoryStorage()
    manifest = save(store_of(storage), 5)
    with pytest.raises(ConfigError, match="the run's state cannot be stored, "):
        encode_manifest(manifest.model_copy(update={"writer": "../x"}))


# ---- markers -------------------------------------------------------------------------------


def change_marker(storage: MemoryStorage, **changes: Any) -> None:
    marker = json.loads(storage.read(FILES[0])) | changes
    storage.write(FILES[0], json.dumps(marker).encode())


def test_a_marker_of_another_format_than_its_manifest_is_damage() -> None:
    storage = MemoryStorage()
    save(store_of(storage), 4)
    save(store_of(storage), 5)
    change_marker(storage, format=3)
    restored = newest(store_of(storage))
    assert restored.checkpoint.manifest.step == 4
    assert [found.step for found in restored.damaged] == [5]
    assert "COMMIT says format 3" in restored.reasons[0]


@pytest.mark.parametrize("changes", [{"shards": 2}, {"manifest_crc32c": "0" * 8}, {"writer": "x"}])
def test_a_marker_of_a_newer_format_is_not_called_damage(changes: dict[str, Any]) -> None:
    storage = MemoryStorage()
    save(store_of(storage), 4)
    save(store_of(storage), 5)
    change_marker(storage, format=3, **changes)
    with pytest.raises(CheckpointError, match=r"checkpoint format 3, .* use a newer trainer"):
        newest(store_of(storage))


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "fifo"])
def test_what_is_no_file_in_the_markers_place_is_replaced(make: Any, tmp_path: Path) -> None:
    store = CheckpointStore(open_storage(str(tmp_path)))
    save(store, 5)
    (tmp_path / FOLDER / "COMMIT").unlink()
    make(tmp_path / FOLDER / "COMMIT")
    assert newest(store).checkpoint is None
    save(store, 5, 5.5)
    assert newest(store).checkpoint.manifest.state["value"] == 5.5
