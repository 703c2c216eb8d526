"""What a process is set up with before TensorFlow's first operation."""

import platform
import resource
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.emulator import free_port
from trainer.cluster import ClusterInfo
from trainer.errors import TrainerError
from trainer.strategy import keep_freed_memory, wait_for_first


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
