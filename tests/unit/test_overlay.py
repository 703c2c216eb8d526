"""A storage to look at: the one below stays as it is."""

from pathlib import Path

import pytest

from tests.small_storage import MemoryStorage, paths
from trainer.errors import ObjectNotFoundError
from trainer.storage import LocalStorage, open_storage
from trainer.storage.overlay import Overlay, overlaid


@pytest.fixture
def below() -> MemoryStorage:
    """Three objects."""
    storage = MemoryStorage()
    for path in ("a-b", "a/1", "c"):
        storage.write(path, b"below")
    return storage


@pytest.fixture
def storage(below: MemoryStorage) -> Overlay:
    """Them, to look at."""
    return Overlay(below, MemoryStorage(url="above:"))


def test_what_is_written_is_seen_and_lies_above(storage: Overlay, below: MemoryStorage) -> None:
    storage.write("c", b"above")
    storage.write("b", b"above")
    assert [storage.read(path) for path in paths(storage)] == [
        b"below", b"below", b"above", b"above",
    ]  # fmt: skip
    assert paths(storage) == ["a-b", "a/1", "b", "c"]
    assert storage.read("c", start=1, length=2) == b"bo"
    assert (below.objects["c"], "b" in below.objects) == (b"below", False)
    assert storage.url == "above:"


def test_a_path_is_taken_by_either(storage: Overlay) -> None:
    assert storage.create("c", b"above") is None
    assert storage.create("d", b"above") is not None
    assert storage.create("d", b"again") is None


def test_what_is_deleted_is_not_seen_and_stays_below(
    storage: Overlay, below: MemoryStorage
) -> None:
    storage.delete("c")
    storage.delete("nothing")
    assert paths(storage, "a") == ["a/1"]
    assert paths(storage) == ["a-b", "a/1"]
    with pytest.raises(ObjectNotFoundError):
        storage.stat("c")
    assert storage.create("c", b"new") is not None
    assert storage.read("c") == b"new"
    assert below.objects["c"] == b"below"


def test_a_version_is_replaced_once(storage: Overlay, below: MemoryStorage) -> None:
    version = storage.stat("c").version
    assert storage.replace("c", b"other", version="no such") is None
    assert storage.replace("nothing", b"other", version=version) is None
    assert storage.replace("c", b"other", version=version) is not None
    assert (storage.read("c"), below.objects["c"]) == (b"other", b"below")


def test_only_a_folder_and_what_is_in_it_are_overlaid(tmp_path: Path) -> None:
    open = overlaid(open_storage, f"{tmp_path}/run", tmp_path / "written")
    for inside in ("", "/", "/model"):
        open(f"{tmp_path}/run{inside}").write("file", b"")
    assert isinstance(open(f"{tmp_path}/run-2"), LocalStorage)
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert files == ["written/file", "written/model/file"]
