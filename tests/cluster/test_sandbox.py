"""The cluster's processes are known by their number and their start."""

import subprocess
import sys

import pytest

from k8s.cluster import sandbox
from k8s.cluster.places import Place


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    place.state.mkdir()
    return place


@pytest.fixture
def process():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
class TestRecord:
    def test_running(self, place, process):
        sandbox.record(place, [process.pid])
        assert sandbox.running(place) == process.pid

    def test_none_was_started(self, place):
        assert sandbox.running(place) is None

    def test_another_process_that_got_the_number(self, place, process):
        sandbox.record(place, [process.pid])
        pid, since = place.process.read_text().split()
        place.process.write_text(f"{pid} {int(since) - 1}")
        assert sandbox.running(place) is None

    def test_one_that_ended(self, place, process):
        sandbox.record(place, [process.pid])
        process.kill()
        process.wait()
        assert sandbox.running(place) is None
