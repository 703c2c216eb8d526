import json

from prometheus_client import CollectorRegistry, generate_latest

from trainer.metrics import Metrics
from trainer.metrics.relay import Relay, snapshot


def worker(steps: int, loss: float, *, saves: int = 0) -> list:
    """What a worker would send after so many steps."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.steps.inc(steps)
    metrics.loss.set(loss, split="train")
    metrics.checkpoint_saves["success"].inc(saves)
    metrics.step_duration_seconds.observe(0.002)
    return json.loads(json.dumps(snapshot(registry)))


def page(relay: Relay) -> dict[str, float]:
    lines = generate_latest(relay).decode().splitlines()
    return {k: float(v) for k, v in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def test_counts_of_all_workers_and_the_agent_add_up() -> None:
    registry = CollectorRegistry()
    own = Metrics(registry)
    own.count_request("write", "ok", 10, False)
    relay = Relay(registry)
    relay.update(worker(5, 0.9, saves=1))
    relay.update(worker(7, 0.8, saves=1))
    relay.end_life()
    assert page(relay)["trainer_steps_total"] == 7
    relay.update(worker(2, 0.7))
    found = page(relay)
    assert found["trainer_steps_total"] == 9
    assert found['trainer_checkpoint_saves_total{result="success"}'] == 1
    assert found["trainer_step_duration_seconds_count"] == 2
    assert found['trainer_storage_bytes_total{operation="write"}'] == 10


def test_counts_of_three_workers_add_up() -> None:
    relay = Relay(CollectorRegistry())
    for steps in (7, 2):
        relay.update(worker(steps, 0.9))
        relay.end_life()
    relay.update(worker(1, 0.9))
    assert page(relay)["trainer_steps_total"] == 10


def test_a_gauge_is_the_latest() -> None:
    relay = Relay(CollectorRegistry())
    relay.update(worker(1, 0.9))
    relay.end_life()
    assert page(relay)['trainer_loss{split="train"}'] == 0.9
    relay.update(worker(1, 0.5))
    assert page(relay)['trainer_loss{split="train"}'] == 0.5


def test_the_page_of_a_relay_is_that_of_the_worker() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.metric.set(3, split="train", metric='a"b\\c')
    relay = Relay(CollectorRegistry())
    relay.update(snapshot(registry))
    kept = [
        line for line in generate_latest(registry).decode().splitlines() if "_created" not in line
    ]
    assert generate_latest(relay).decode().splitlines() == kept
