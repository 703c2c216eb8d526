"""What a process is set up with before TensorFlow's first operation; devices of a group."""

import platform
import resource
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.emulator import free_port
from trainer.cluster import ClusterInfo
from trainer.errors import ConfigError, TrainerError
from trainer.strategy import check_alike, keep_freed_memory, wait_for_first


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


SUMS = """
import numpy as np
import tensorflow as tf
{}
first, second, third = np.random.default_rng(0).random((3, 1000), np.float32)
add = tf.function(lambda *of: of[0] + (of[1] + of[2]), autograph=False)
computed = add(*map(tf.constant, (first, second, third))).numpy()
print(np.count_nonzero(computed != first + (second + third)))
"""


OF_A_WORKER = """
from trainer.config.models import TrainConfig
from trainer.strategy import seed_process
seed_process(TrainConfig(epochs=1))
"""
OF_A_SCRIPT = """
import trainer
trainer.setup("run")
"""


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(OF_A_WORKER, id="worker"),
        pytest.param(OF_A_SCRIPT, id="script", marks=pytest.mark.long),
    ],
)
def test_sums_are_made_in_the_order_written(begin, tmp_path):
    # In a process of its own, whose settings are nobody else's.
    command = [sys.executable, "-c", SUMS.format(begin)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout.splitlines()[-1] == "0", done.stdout


def second_of_two(port):
    return ClusterInfo(1, 2, "127.0.0.1", (f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}"))


def test_the_first_worker_is_waited_for():
    port = free_port()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(wait_for_first, second_of_two(port), seconds=60)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
        with socket.create_server(("127.0.0.1", port)):
            waiting.result(timeout=30)


def test_a_first_worker_that_is_not_there_is_named():
    port = free_port()
    with pytest.raises(TrainerError, match=f"worker 0 did not listen at 127.0.0.1:{port} within"):
        wait_for_first(second_of_two(port), seconds=0.1)


def test_the_first_worker_waits_for_nobody():
    wait_for_first(ClusterInfo(0, 2, "127.0.0.1", (f"127.0.0.1:{free_port()}",) * 2), seconds=0)


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
