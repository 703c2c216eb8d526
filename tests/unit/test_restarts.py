import pytest

from tests.small_storage import MemoryStorage
from trainer.agent.memory import killed_by, memory_limit
from trainer.agent.restarts import RESTARTS_FILE, Restarts
from trainer.errors import NoProgressError


def test_failures_without_a_new_step_are_waited_after_and_end() -> None:
    restarts = Restarts(MemoryStorage(), limit=3)
    waits = [restarts.failed(step, "killed") for step in (10, 10, 9)]
    assert waits == [0.0, 1.0, 2.0]
    with pytest.raises(NoProgressError, match=r"4 workers in a row .* at step 10: crashed; mend"):
        restarts.failed(None, "crashed")


def test_one_worker_that_failed_is_no_row() -> None:
    with pytest.raises(NoProgressError, match=r"^a worker failed without a new step"):
        Restarts(MemoryStorage(), limit=0).failed(0, "killed")


def test_a_new_step_begins_the_count_anew() -> None:
    restarts = Restarts(MemoryStorage(), limit=2)
    assert [restarts.failed(step, "killed") for step in (1, 1, 2, 2, 3)] == [0, 1, 0, 1, 0]


def test_a_checkpoint_since_the_last_failure_begins_the_count_anew() -> None:
    """Of workers that were stopped, or went with their agents: no failure tells of their steps."""
    storage = MemoryStorage()
    restarts = Restarts(storage, limit=2)
    assert restarts.failed(160, "killed") == 0.0
    storage.write("checkpoints/step-00000240-f9/COMMIT", b"")
    assert restarts.failed(None, "killed") == 0.0
    # Only a committed one counts, and once.
    storage.write("checkpoints/step-00000280-f9/manifest.json", b"")
    storage.write("checkpoints/notes/COMMIT", b"")
    assert restarts.failed(None, "killed") == 1.0
    # After a start over there are lower steps, of a higher fence.
    storage.write("checkpoints/step-00000004-f10/COMMIT", b"")
    assert restarts.failed(None, "killed") == 0.0
    assert restarts.failed(None, "killed") == 1.0
    with pytest.raises(NoProgressError):
        restarts.failed(None, "killed")


def test_a_worker_that_never_took_a_step_counts() -> None:
    restarts = Restarts(MemoryStorage(), limit=1)
    assert restarts.failed(None, "killed") == 0.5
    with pytest.raises(NoProgressError, match="at step 0"):
        restarts.failed(None, "killed")


def test_the_count_is_kept_in_the_folder_and_gone_after_the_end() -> None:
    storage = MemoryStorage()
    Restarts(storage, limit=9).failed(5, "killed")
    with pytest.raises(NoProgressError):
        Restarts(storage, limit=1).failed(5, "killed")
    assert RESTARTS_FILE not in storage.objects
    storage.write(RESTARTS_FILE, b"{damaged")
    assert Restarts(storage, limit=1).failed(5, "killed") == 0.0


def test_the_longest_wait_is_bounded() -> None:
    restarts = Restarts(MemoryStorage(), limit=100)
    assert max(restarts.failed(5, "killed") for _ in range(100)) == 30.0


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory.max": "536870912\n"}, 512 << 20),
        ({"memory.max": "max\n"}, None),
        ({"memory/memory.limit_in_bytes": "1048576"}, 1 << 20),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        ({}, None),
    ],
    ids=["v2", "v2 without", "v1", "v1 without", "none"],
)
def test_a_kill_is_told_with_the_memory_limit(tmp_path, files, limit) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_limit(tmp_path) == limit
    said = f"the container's {limit >> 20} MiB" if limit else "when memory runs out"
    assert said in killed_by(tmp_path)
