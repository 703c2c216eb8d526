"""A part that ends is an error that shows what it said last."""

import sys

import pytest

from k8s.cluster.places import ClusterError
from k8s.cluster.processes import Processes

SAYS_AND_ENDS = [sys.executable, "-c", "print('no such flag'); raise SystemExit(3)"]


@pytest.fixture
def processes(tmp_path):
    return Processes(tmp_path)


def test_one_that_ends_while_another_is_waited_for(processes):
    processes.start("etcd", SAYS_AND_ENDS)
    with pytest.raises(ClusterError, match=r"etcd ended with 3; .*\nno such flag"):
        processes.wait_for("API server", lambda: False, seconds=60)


def test_a_wait_ends(processes, tmp_path):
    with pytest.raises(ClusterError, match=f"node: not within 0 s; logs: {tmp_path}"):
        processes.wait_for("node", lambda: False, seconds=0)


def test_watching(processes):
    processes.start("etcd", SAYS_AND_ENDS)
    with pytest.raises(ClusterError, match="etcd ended with 3"):
        processes.watch()
