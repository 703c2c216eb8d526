"""Prometheus scrapes a real group that is disturbed: alerts fire as they are meant to, and no
panel stays empty.
"""

import time

import pytest

from tests.emulator import free_port
from tests.faults.groups import Agents, at_the_gate, gate, open_gate, wait_until
from tests.monitored import OF_GPUS, ask, monitoring, panels, rules
from trainer.storage import open_storage

pytestmark = [
    pytest.mark.long,
    pytest.mark.needs_alertmanager,
    pytest.mark.needs_gcs,
    pytest.mark.timeout(300),
]

# As in the chart, but for seconds in the place of minutes.
SCALED = {
    "interval": "1s",
    "window": "10s",
    "alerts": {
        "trainingStalled": {"seconds": 20, "for": "1s"},  # more than a start takes
        "checkpointSlow": {"window": "60s", "for": "1s"},
        "restartLoop": {"restarts": 2, "window": "2m"},
        "workerMissing": {"for": "3s"},
        "storageRetriesHigh": {"for": "5s"},
    },
}
MEANT = {
    "TrainingStalled", "WorkerMissing", "CheckpointFellBack", "RestartLoop",
    "TrainingNonFiniteLoss", "JobFailed",
}  # fmt: skip


@pytest.fixture
def watched(run_in_store, tmp_path):
    """A group at its gate, its newest checkpoints those of steps 4 and 8, and who watches it."""
    run = run_in_store
    ports = [free_port(), free_port()]
    nan = {"name": "tests.faults.inject:NanAt", "args": {"at": 30}, "stateless": True}
    agents = Agents(
        run,
        settings={
            "callbacks": [gate(run, at=14), nan], "metrics.enabled": True, "train.epochs": 9,
            "train.gradient_norm": True,
        },
    )  # fmt: skip
    agents.ports = ports
    with monitoring(tmp_path / "monitoring", ports, SCALED) as (prometheus, told):
        for index, port in enumerate(ports):
            agents.start(index, metrics__port=port)
        at_the_gate(agents)
        yield agents, prometheus, told


def test_a_disturbed_run_is_seen_in_alerts_and_panels(watched):
    agents, prometheus, told = watched
    began = time.time() - 60
    wait_until(lambda: "TrainingStalled" in told.firing(), "it stands still")
    agents.kill(1)
    damage_newest(agents.run)
    wait_until(lambda: "WorkerMissing" in told.firing(), "a worker is away")
    agents.start(1, metrics__port=agents.ports[1])
    wait_until(lambda: "CheckpointFellBack" in told.firing(), "a checkpoint was passed over")
    wait_until(lambda: len(agents.run.fired()) == 4, "both are at the gate again")
    agents.kill_worker(0)
    wait_until(lambda: "RestartLoop" in told.firing(), "too many restarts")
    open_gate(agents.run)
    assert agents.codes() == [4, 4], agents.text()
    wait_until(lambda: told.firing() >= MEANT, f"all of {MEANT}")
    assert told.firing() == MEANT
    assert {rule["health"] for rule in rules(prometheus)} == {"ok"}
    window = {"start": began, "end": time.time(), "step": 1}
    empty = {
        where for where, expr in panels()
        if not ask(prometheus, "query_range", query=expr, **window)["result"]
    }  # fmt: skip
    assert empty == OF_GPUS


def damage_newest(run):
    """Of its checkpoints."""
    storage = open_storage(run.url)
    newest = max(entry.path for entry in storage.list("checkpoints/") if "COMMIT" in entry.path)
    folder = newest.rpartition("/")[0]
    part = next(e.path for e in storage.list(f"{folder}/") if e.path.endswith(".safetensors"))
    storage.write(part, b"no such tensors")
