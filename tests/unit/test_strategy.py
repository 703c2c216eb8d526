"""What a process is set up with before TensorFlow's first operation; devices of a group."""

import platform
import resource

import pytest

from trainer.errors import ConfigError
from trainer.strategy import check_alike, keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_used_again():
    keep_freed_memory()

    def new_pages():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        records = [b"x" * 2_000_000 for _ in range(20)]
        assert len(records) == 20
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    new_pages()
    assert new_pages() < 1000


CHIEF, FIRST, SECOND = "/job:chief/task:0", "/job:worker/task:0", "/job:worker/task:1"


def names(*devices: str) -> list[str]:
    """TensorFlow's names of them; "CPU:0" of all three tasks is there by itself."""
    cpus = [f"{task}/device:CPU:0" for task in (SECOND, CHIEF, FIRST)]
    return [name.replace("/task", "/replica:0/task") for name in (*cpus, *devices)]


@pytest.mark.parametrize(
    "devices",
    [(), [f"{task}/device:GPU:{gpu}" for task in (FIRST, SECOND, CHIEF) for gpu in (0, 1)]],
    ids=["CPUs", "GPUs"],
)
def test_equal_devices_are_alike(devices: list[str]) -> None:
    check_alike(names(*devices))


# On GPUs, it does not matter how many CPUs there are.
@pytest.mark.parametrize(
    ("devices", "found"),
    [
        ([f"{FIRST}/device:GPU:0"], "(1 CPU: worker 0, 2; 1 GPU: worker 1)"),
        ([f"{SECOND}/device:CPU:1"], "(1 CPU: worker 0-1; 2 CPU: worker 2)"),
        (
            [
                f"{CHIEF}/device:CPU:1",
                *(f"{task}/device:GPU:0" for task in (CHIEF, FIRST, SECOND)),
                f"{CHIEF}/device:GPU:1",
            ],
            "(2 GPU: worker 0; 1 GPU: worker 1-2)",
        ),
    ],
)
def test_others_are_named_by_worker(devices: list[str], found: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_alike(names(*devices))
    assert found in str(refused.value)
    assert "nvidia.com/gpu limit" in str(refused.value)
