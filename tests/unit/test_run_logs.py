"""Kept output of workers: where it lies, what is not in it, and how much of it there is."""

import asyncio
from pathlib import Path
from typing import Any

from tests.small_storage import MemoryStorage
from trainer.agent import kept_output
from trainer.agent.kept_output import KeptOutput
from trainer.errors import StorageError
from trainer.run.logs import KeptLog, kept_logs
from trainer.storage import LocalStorage


class _Log:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.warnings.append(f"{event}: {fields['reason']}")


def write(storage: Any, *numbers: int, index: int = 0, log: Any = None) -> None:
    async def all_of_them() -> None:
        keeper = KeptOutput(storage, index, log)
        for number in numbers:
            keeper.write(number, b"generation %d" % number)
            await keeper.close()

    asyncio.run(all_of_them())


def test_each_worker_of_each_generation_has_its_own(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    write(storage, 1, 2)
    write(storage, 2, index=11)
    assert [(log.generation, log.worker) for log in kept_logs(storage)] == [(1, 0), (2, 0), (2, 11)]
    assert storage.read(KeptLog(2, 11).path) == b"generation 2"
    assert kept_logs(storage)[0].bytes == len("generation 1")


def test_other_files_are_no_logs(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    for path in ("logs/notes.txt", "logs/worker-x/000001.log", "logs/worker-1/000001.log.old"):
        storage.write(path, b"")
    assert kept_logs(storage) == []


def test_the_oldest_of_this_worker_go(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(kept_output, "_MOST_GENERATIONS", 2)
    storage = LocalStorage(tmp_path)
    write(storage, 1, index=1)
    write(storage, 1, 2, 3, 4)
    assert [(log.generation, log.worker) for log in kept_logs(storage)] == [(1, 1), (3, 0), (4, 0)]


def test_a_store_that_refuses_is_told_of_once() -> None:
    class Refusing(MemoryStorage):
        def write(self, path: str, data: Any) -> Any:
            raise StorageError("no space left")

    log = _Log()
    write(Refusing(), 1, 2, log=log)
    assert log.warnings == ["log not kept: no space left"]


def test_a_log_is_written_while_the_worker_runs(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(kept_output, "_EVERY_SECONDS", 0.001)
    storage = LocalStorage(tmp_path)

    class Output:
        def end(self) -> bytes:
            return b"so far"

    async def until_written() -> None:
        keeper = KeptOutput(storage, 3, None)
        keeping = asyncio.create_task(keeper.keep(lambda: 7, Output()))  # type: ignore[arg-type]
        async with asyncio.timeout(60):
            while not kept_logs(storage):
                await asyncio.sleep(0.001)
        keeping.cancel()
        await keeper.close()

    asyncio.run(until_written())
    assert storage.read("logs/worker-3/000007.log") == b"so far"
