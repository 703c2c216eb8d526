import json
import logging
import threading

from tests.small_storage import MemoryStorage
from trainer.errors import StorageError
from trainer.run.events import RunEvents


def test_a_life_has_a_file_with_a_line_an_event():
    storage, times = MemoryStorage(), iter([1.0004, 2.5])
    events = RunEvents(storage, 7, clock=lambda: next(times))
    events.add("start", holder="me")
    events.add("restore", step=4)
    lines = storage.read("events/000007.jsonl").decode().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"time": 1.0, "event": "start", "holder": "me"},
        {"time": 2.5, "event": "restore", "step": 4},
    ]


class Full(MemoryStorage):
    def write(self, path, data):
        raise StorageError("the disk is full")


def test_what_cannot_be_kept_is_only_told(caplog):
    with caplog.at_level(logging.WARNING):
        RunEvents(Full(), 1).add("start")
    assert "event 'start' was not kept: the disk is full" in caplog.text


class Silent(MemoryStorage):
    def __init__(self):
        super().__init__()
        self.answers = threading.Event()

    def write(self, path, data):
        assert self.answers.wait(30)
        return super().write(path, data)


def test_a_store_that_does_not_answer_is_not_waited_for():
    storage = Silent()
    events = RunEvents(storage, 1, patience=0.01)
    events.add("start")
    events.add("stop")
    assert storage.objects == {}
    writers = [thread for thread in threading.enumerate() if thread.name == "events"]
    storage.answers.set()
    for writer in writers:
        writer.join(30)
    assert [
        json.loads(line)["event"] for line in storage.objects["events/000001.jsonl"].splitlines()
    ] == ["start", "stop"]
