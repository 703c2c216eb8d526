"""What a process is set up with before TensorFlow's first operation."""

import platform
import resource

import pytest

from trainer.strategy import keep_freed_memory


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
