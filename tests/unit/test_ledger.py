"""The ledger in a run's folder, and the agent that keeps it."""

import pytest
import structlog
from prometheus_client import CollectorRegistry

from tests.small_storage import MemoryStorage, paths
from trainer.agent.time_line import TimeLine
from trainer.errors import StorageError
from trainer.goodput import Generation, Spent
from trainer.metrics import Metrics
from trainer.run.ledger import MOST_BYTES, newest, read, write
from trainer.storage import open_storage

FIRST = Generation(1, 1000.0, 1060.5, {"startup": 20.5, "step": 40.0}, 2, 7, 7, "killed", "why")
SECOND = Generation(2, 1070.0, 1080.0, {"step": 10.0}, 2, 9, 9, "complete")


@pytest.fixture(params=["memory", "folder"])
def storage(request, tmp_path):
    return MemoryStorage() if request.param == "memory" else open_storage(str(tmp_path))


def test_what_was_written_is_read(storage):
    write(storage, SECOND)
    write(storage, FIRST)
    ledger = read(storage)
    assert ledger.generations[1] == newest(storage) == SECOND
    assert ledger.generations[0].detail == "why"
    assert ledger.wall_seconds == 80
    assert ledger.productive == 50 / 80


def test_a_run_without_a_ledger_has_an_empty_one(storage):
    assert read(storage).wall_seconds == 0
    assert newest(storage) is None


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{", b"{}", b"x" * (MOST_BYTES + 1),
        b'{"number":2,"start":1,"end":2,"seconds":{"step":-1}}',
        b'{"number":2,"start":1,"end":2,"seconds":{"step":1e999}}',
        b'{"number":2,"start":1,"end":2,"seconds":{"step":1e308,"down":1e308}}',
        b'{"number":2,"start":1,"end":1e300,"seconds":{}}',
        b'{"number":2,"start":1,"end":2,"seconds":{},"step":1%s}' % (b"0" * 400),
    ],
    ids=lambda data: data[-12:].decode(),
)  # fmt: skip
def test_a_damaged_object_is_passed_over_and_told(storage, data, caplog):
    write(storage, FIRST)
    storage.write("goodput/000002.json", data)
    assert read(storage).generations == (FIRST,)
    assert newest(storage) == FIRST
    assert "goodput/000002.json in" in caplog.text


def test_an_object_stays_small():
    write(storage := MemoryStorage(), Generation(
        10**9, 1.7e9, 1.8e9, dict.fromkeys(map(str, range(12)), 1 / 3 * 1e8), 512, 10**9, 10**9,
        "group", "x" * 300,
    ))  # fmt: skip
    assert len(storage.objects["goodput/1000000000.json"]) < 2000


class Agent:
    """A time line with clocks that the test sets, without the thread that writes."""

    def __init__(self, storage, *, wall=5000.0, **options):
        self.now, self.wall = 100.0, wall
        self.registry = CollectorRegistry()
        self.storage = storage
        self.line = TimeLine(
            Metrics(self.registry), log=structlog.get_logger(),
            clock=lambda: self.now, wall=lambda: self.wall + self.now - 100, **options,
        )  # fmt: skip

    def hold(self, number, waited=False):
        self.line.goes_on(self.storage, waited=waited)
        self.line.begin(number)

    def pass_(self, seconds):
        self.now += seconds

    def write(self):
        """As its thread does at the end."""
        self.line._closing.set()
        self.line._keep()

    def counted(self, cause):
        name = "trainer_goodput_seconds_total"
        return self.registry.get_sample_value(name, {"cause": cause})

    def phase(self):
        families = [f for f in self.registry.collect() if f.name == "trainer_phase"]
        return [s.labels["phase"] for f in families for s in f.samples if s.value == 1]


def test_a_life_from_the_start_of_its_agent_to_its_end():
    agent = Agent(MemoryStorage())
    agent.pass_(2)
    agent.line.switch("gathering")
    agent.pass_(3)
    agent.line.workers = 4
    agent.hold(7)
    agent.line.switch("startup")
    agent.pass_(5)
    agent.line.take(Spent({"startup": 4.0, "compile": 1.0}, "step", agent.now))
    agent.line.at_step(12)
    agent.pass_(10)
    agent.line.take(Spent({"step": 10.0}, "checkpoint", agent.now))
    agent.pass_(1)
    agent.line.worker_ended(is_broken_off=True)
    agent.line.because("killed", "by the test")
    agent.line.because("stopped")
    agent.pass_(0.5)
    agent.write()
    (life,) = read(agent.storage).generations
    assert life == Generation(
        7, 5000.0, 5021.5,
        {"startup": 6, "gathering": 3, "compile": 1, "step": 10, "checkpoint": 1, "down": 0.5},
        4, 12, 12, "killed", "by the test",
    )  # fmt: skip
    assert [agent.counted(cause) for cause in ("gathering", "step", "redone")] == [3, 10, 0]
    assert agent.phase() == ["down"]


def test_a_call_that_was_broken_off_is_no_work():
    agent = Agent(MemoryStorage())
    agent.hold(1)
    agent.line.take(Spent({}, "step", agent.now))
    agent.pass_(3)
    agent.line.worker_ended(is_broken_off=True)
    agent.write()
    assert read(agent.storage).seconds["down"] == 3
    assert agent.counted("step") == 0


def test_each_life_has_its_own_seconds():
    agent = Agent(MemoryStorage())
    agent.pass_(1)
    agent.hold(1)
    agent.pass_(2)
    agent.line.worker_ended(is_broken_off=True)
    agent.line.because("crashed")
    agent.pass_(4)
    agent.line.begin(2)
    agent.line.switch("startup")
    agent.pass_(8)
    agent.write()
    first, second = read(agent.storage).generations
    assert (first.seconds, first.end) == ({"startup": 3, "down": 4}, second.start)
    assert (second.seconds, second.reason) == ({"startup": 8}, "")
    assert paths(agent.storage) == ["goodput/000001.json", "goodput/000002.json"]


def test_the_next_pod_counts_what_lay_between():
    storage = MemoryStorage()
    write(storage, FIRST)  # it ended at 1060.5, after step 7
    agent = Agent(storage, wall=1090.5)
    agent.hold(2)
    assert agent.line.reached == 7
    assert agent.counted("down") == 30
    agent.pass_(1)
    agent.write()
    assert read(storage).seconds["down"] == 30
    assert read(storage).generations[1].reached == 7


def test_what_an_agent_waited_for_another_job_is_the_other_ones():
    storage = MemoryStorage()
    agent = Agent(storage, wall=1000.5)
    agent.pass_(59)
    write(storage, FIRST)
    agent.pass_(2)
    agent.hold(2, waited=True)
    agent.pass_(3)
    agent.write()
    assert read(storage).generations[1].seconds == {"startup": 3}
    assert read(storage).seconds["down"] == 1


def test_beside_agent_0_nothing_is_kept():
    agent = Agent(MemoryStorage(), is_kept=False)
    agent.line.switch("gathering")
    agent.pass_(3)
    agent.write()
    assert agent.storage.objects == {}
    assert agent.counted("gathering") == 0
    assert agent.registry.get_sample_value("trainer_gathering_seconds_total") == 3
    assert agent.phase() == ["gathering"]


class Refusing(MemoryStorage):
    refuses = True

    def write(self, path, data):
        if self.refuses:
            raise StorageError("no right to write")
        return super().write(path, data)


def test_a_store_that_refuses_is_told_of_once_and_tried_again():
    agent = Agent(Refusing())
    with structlog.testing.capture_logs() as said:
        for number in (1, 2, 3):
            agent.line._log = structlog.get_logger()
            agent.hold(number)
            agent.pass_(1)
            agent.write()
    assert [event["event"] for event in said] == ["goodput is not kept"]
    agent.storage.refuses = False
    agent.write()
    assert [life.number for life in read(agent.storage).generations] == [1, 2, 3]
