"""Curves in a run's folder: read as they were written, and never in the way."""

import logging
import threading

import pytest

from tests.small_storage import MemoryStorage, paths
from trainer.errors import StorageError
from trainer.run.curve_store import MOST_BYTES, RunCurves, read


def kept(storage, number=7, steps=3, **options):
    curves = RunCurves(storage, number, **options)
    curves.recorder.begin(0, 10, 5)
    curves.recorder.call({"loss": [0.5] * steps}, [float(i) for i in range(steps)], [0.0] * steps)
    return curves


def test_a_life_is_read_as_it_was_written():
    storage = MemoryStorage()
    curves = kept(storage)
    curves.recorder.epoch({"loss": float("inf"), "val_loss": 0.25}, 3.0)
    curves.close()
    assert paths(storage) == ["curves/000007.json"]
    (life,), problems = read(storage)
    assert life == curves.recorder.frozen().life()
    assert life.epochs.values == {"loss": [None], "val_loss": [0.25]}
    assert not problems


def test_it_is_written_after_a_second_and_then_now_and_then():
    now = [0.0]
    curves = kept(MemoryStorage(), clock=lambda: now[0])
    written = []
    for tick in range(600):
        now[0] = tick / 10
        if curves.write_if_due():
            written.append(now[0])
    curves.close()
    assert written == [1.0, 21.0, 41.0]


def test_it_is_written_with_a_checkpoint_unless_that_is_too_often():
    storage, now = MemoryStorage(), [0.0]
    curves = kept(storage, clock=lambda: now[0])
    curves.saved()
    wait_for_writer()
    assert storage.versions == {"curves/000007.json": 1}
    curves.saved()
    assert not curves.write_if_due()
    now[0] = 20.0
    assert curves.write_if_due()
    wait_for_writer()
    assert storage.versions == {"curves/000007.json": 2}


def wait_for_writer():
    for thread in threading.enumerate():
        if thread.name == "curves":
            thread.join(30)


class Full(MemoryStorage):
    def write(self, path, data):
        raise StorageError("the disk is full")


def test_a_store_that_refuses_is_told_of_once(caplog):
    curves = kept(Full())
    with caplog.at_level(logging.WARNING):
        curves.close()
        curves.close()
    assert caplog.text.count("curves are not kept: the disk is full") == 1


class Silent(MemoryStorage):
    def __init__(self):
        super().__init__()
        self.answers = threading.Event()

    def write(self, path, data):
        assert self.answers.wait(30)
        return super().write(path, data)


def test_a_store_that_does_not_answer_is_not_waited_for():
    storage = Silent()
    curves = kept(storage, patience=0.01)
    curves.close()
    curves.close()
    assert not storage.objects
    (writer,) = [thread for thread in threading.enumerate() if thread.name == "curves"]
    storage.answers.set()
    writer.join(30)


def test_who_does_not_write_keeps_none():
    curves = RunCurves(None, 1)
    assert curves.recorder is None
    curves.close()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b'{"number": 1}', b'{"number": -1, "start": 0}',
        b'{"number": 1, "start": 0, "train": {"steps": [1], "times": [], "values": {}}}',
        b'{"number": 1, "start": 0, "train": {"steps": [1], "times": [NaN], "values": {}}}',
        b'{"number": 1, "start": 0, "durations": {"0": 1%s}}' % (b"0" * 400),
        b'{"number": 1, "start": 0, "durations": {"1%s": 1}}' % (b"0" * 400),
        b'{"number": 1, "start": 0, "steps_per_epoch": {"0": 1%s}}' % (b"0" * 400),
        b" " * (MOST_BYTES + 1),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_and_left_out(data):
    storage = MemoryStorage()
    kept(storage).close()
    storage.write("curves/000008.json", data)
    lives, problems = read(storage)
    assert [life.number for life in lives] == [7]
    assert len(problems) == 1
    assert problems[0].startswith("curves/000008.json is ")


def test_an_end_beside_a_save_waits_for_what_it_writes(monkeypatch):
    begun, go = threading.Event(), threading.Event()

    class SlowToStart(threading.Thread):
        def start(self):
            begun.set()
            assert go.wait(60)
            super().start()

    storage = MemoryStorage()
    curves = kept(storage)
    monkeypatch.setattr("trainer.run.curve_store.threading.Thread", SlowToStart)
    saving = threading.Timer(0, curves.saved)
    ending = threading.Timer(0, curves.close)
    saving.start()
    assert begun.wait(60)
    ending.start()
    ending.join(0.1)
    assert ending.is_alive()
    go.set()
    for thread in (saving, ending):
        thread.join(60)
    (life,), problems = read(storage)
    assert (life.train.steps, problems) == ([1, 2, 3], [])
