"""Which devices workers of a group may have."""

import pytest

from trainer.errors import ConfigError
from trainer.strategy import check_alike

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
