"""PID 1 waits for children that it inherited, and for no others."""

import os
import subprocess
import sys

import pytest

from trainer.agent.orphans import Orphans

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def zombie():
    """The number of a child that has ended, and that nobody has waited for."""
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield process.pid
    process.wait()  # whoever else waited: the object takes it for 0


def is_waited_for(pid: int) -> bool:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def test_a_zombie_of_two_calls_is_reaped(zombie):
    orphans = Orphans()
    orphans.reap()
    assert not is_waited_for(zombie)
    orphans.reap()
    assert is_waited_for(zombie)


def test_a_new_zombie_is_left_to_who_started_it(zombie):
    orphans = Orphans()
    orphans._seen = {(zombie, "0")}  # an earlier process of the same number
    orphans.reap()
    assert not is_waited_for(zombie)


def test_a_live_child_is_left_alone():
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        orphans = Orphans()
        orphans.reap()
        orphans.reap()
        assert process.poll() is None
    assert process.returncode == 0
