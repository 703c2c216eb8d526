"""The worker that waits for the next generation."""

import errno
import os
from typing import Any

import pytest

from trainer.agent.spare import Spare


def test_one_that_cannot_be_started_is_missed_and_nothing_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def start() -> Any:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    spare = Spare(start)
    spare.prepare()
    assert "no spare worker: [Errno 11]" in caplog.text
    assert spare.take() is None
    spare.close()
