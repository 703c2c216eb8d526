"""The table of metrics, what a fresh process shows, and what bounds the labels."""

import logging
import re
from typing import get_args

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from trainer.errors import ConfigError
from trainer.metrics import Declaration, Metrics, describe
from trainer.metrics.registry import CODES, OPERATIONS, GaugeFamily, LateGauge
from trainer.storage.base import Operation


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def set_everything(metrics: Metrics) -> None:
    metrics.loss.set(0.5, split="train")
    metrics.metric.set(0.9, split="validation", metric="accuracy")
    metrics.set_build_info(
        version="0.1.0", tensorflow="2.21", keras="3.15", backend="jax 0.9", python="3.11"
    )
    metrics.set_run_info("demo")
    metrics.set_phase("step")
    metrics.gpu_memory_bytes.set(1e9, gpu="0")
    metrics.gpu_memory_peak_bytes.set(2e9, gpu="0")
    for gauge in vars(metrics).values():
        if isinstance(gauge, LateGauge):
            gauge.set(1)


def test_every_declared_metric_is_made_once_and_nothing_else(registry: CollectorRegistry) -> None:
    set_everything(Metrics(registry))
    page = generate_latest(registry).decode()
    made = {
        (family.name + "_total" * (family.type == "counter"), family.type, family.documentation)
        for family in text_string_to_metric_families(page)
        if not family.name.endswith("_created")
    }
    assert made == {(row.name, row.kind, row.help) for row in describe()}
    assert len({row.name for row in describe()}) == len(describe())


def test_declared_labels_and_buckets_are_those_on_the_page(registry: CollectorRegistry) -> None:
    set_everything(Metrics(registry))
    for row in describe():
        (family,) = [f for f in registry.collect() if row.name in (f.name, f.name + "_total")]
        sample = family.samples[0]
        assert set(sample.labels) - {"le"} == set(row.labels)
        bounds = [s.labels["le"] for s in family.samples if "le" in s.labels]
        assert bounds == [*(str(float(b)) for b in row.buckets), *["+Inf"] * bool(row.buckets)]


@pytest.mark.parametrize("row", describe(), ids=lambda row: row.name)
def test_names_follow_the_house_rules(row: Declaration) -> None:
    assert re.fullmatch(r"trainer_[a-z_]+", row.name)
    assert row.name.endswith("_total") == (row.kind == "counter")
    assert not re.search(r"_(ms|minutes|kb|mb|percent)(_|$)", row.name)
    assert row.help


def test_operations_are_those_of_storage() -> None:
    assert get_args(Operation) == OPERATIONS


def test_f60_a_new_process_starts_every_counter_at_0(registry: CollectorRegistry) -> None:
    Metrics(registry)
    families = [f for f in registry.collect() if f.type == "counter"]
    counters = {s.name: s.value for f in families for s in f.samples}
    assert {n for n in counters if n.endswith("_total")} == {
        row.name for row in describe() if row.kind == "counter"
    }
    assert {v for n, v in counters.items() if n.endswith("_total")} == {0}
    for result in ("success", "failure"):
        assert value(registry, "trainer_checkpoint_saves_total", result=result) == 0


def test_f60_counters_cannot_be_set_from_a_checkpoint(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    assert not hasattr(metrics.steps, "set")
    with pytest.raises(ValueError, match="only be incremented"):
        metrics.steps.inc(-1)


def test_gauges_are_absent_until_they_are_set(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    assert not [s for f in registry.collect() for s in f.samples if f.type == "gauge"]
    metrics.last_step_timestamp_seconds.set(1.7e9)
    metrics.last_step_timestamp_seconds.set(1.8e9)
    assert value(registry, "trainer_last_step_timestamp_seconds") == 1.8e9


def test_the_global_registry_is_left_alone(registry: CollectorRegistry) -> None:
    set_everything(Metrics(registry))
    set_everything(Metrics(CollectorRegistry()))
    assert not [f.name for f in REGISTRY.collect() if f.name.startswith("trainer")]


def test_results_of_saves_are_a_closed_set(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    metrics.checkpoint_saves["success"].inc()
    assert value(registry, "trainer_checkpoint_saves_total", result="success") == 1
    with pytest.raises(KeyError):
        metrics.checkpoint_saves["sucess"].inc()


def test_infos_show_the_latest_only(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    for version in ("1", "2"):
        metrics.set_build_info(version=version, tensorflow="t", keras="k", backend="b", python="p")
    (family,) = [f for f in registry.collect() if f.name == "trainer_build_info"]
    assert [s.labels["version"] for s in family.samples] == ["2"]


def test_infos_may_change_any_number_of_times(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    for number in range(30):
        metrics.set_run_info(f"run-{number}")
    assert value(registry, "trainer_run_info", run="run-29") == 1


# --- bounded labels


def test_further_values_of_a_label_are_dropped_and_said_once(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics(registry)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            for number in range(65):
                metrics.metric.set(number, split="train", metric=f"m{number}")
    (family,) = [f for f in registry.collect() if f.name == "trainer_metric"]
    assert {s.labels["metric"] for s in family.samples} == {f"m{n}" for n in range(50)}
    assert [r.getMessage() for r in caplog.records] == [
        "label 'metric' has 50 values already: 'm50' and further ones are not exported"
    ]


def test_values_that_were_taken_stay_settable_when_the_label_is_full(
    registry: CollectorRegistry,
) -> None:
    metrics = Metrics(registry)
    for number in range(12):
        metrics.metric.set(0, split="train", metric=f"m{number}")
    metrics.metric.set(7, split="train", metric="m3")
    metrics.metric.set(8, split="validation", metric="m3")
    assert value(registry, "trainer_metric", split="train", metric="m3") == 7
    assert value(registry, "trainer_metric", split="validation", metric="m3") == 8


def test_a_dropped_value_does_not_use_up_the_other_label(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    for number in range(12):
        metrics.metric.set(0, split="train", metric=f"m{number}")
    for number in range(20):
        metrics.metric.set(0, split=f"s{number}", metric="m11")
    metrics.metric.set(1, split="validation", metric="m0")
    assert value(registry, "trainer_metric", split="validation", metric="m0") == 1


@pytest.mark.parametrize("labels", [{"split": "train"}, {"split": "a", "metric": "b", "x": "c"}])
def test_labels_of_a_series_must_be_the_declared_ones(
    registry: CollectorRegistry, labels: dict[str, str]
) -> None:
    metric: GaugeFamily = Metrics(registry).metric
    with pytest.raises(TypeError, match="labels must be"):
        metric.set(1, **labels)


# --- labels from the config


def test_constant_labels_are_on_every_sample(registry: CollectorRegistry) -> None:
    set_everything(Metrics(registry, labels={"team": "a", "cluster": "b"}))
    samples = [s for f in registry.collect() for s in f.samples]
    assert len(samples) > 40
    assert all(s.labels["team"] == "a" and s.labels["cluster"] == "b" for s in samples)
    assert value(registry, "trainer_loss", team="a", cluster="b", split="train") == 0.5


@pytest.mark.parametrize("text", ['"', "\\", '"} evil 1', "a{b}", "ünï ☃", '\\"'])
def test_f61_hostile_values_are_escaped(registry: CollectorRegistry, text: str) -> None:
    metrics = Metrics(registry, labels={"team": text})
    set_everything(metrics)
    metrics.metric.set(1, split="train", metric=text + "\n# HELP x\nevil 1")
    page = generate_latest(registry).decode()
    families = {f.name: f for f in text_string_to_metric_families(page)}
    assert not any("evil" in name for name in families)
    samples = [s for f in families.values() for s in f.samples]
    assert {s.labels["team"] for s in samples} == {text}
    assert text + "\n# HELP x\nevil 1" in {s.labels.get("metric") for s in samples}


def test_f61_a_value_that_utf_8_cannot_hold_does_not_break_the_page(
    registry: CollectorRegistry,
) -> None:
    Metrics(registry).metric.set(1, split="train", metric="a\ud800")
    assert b'metric="a?"' in generate_latest(registry)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"a-b": "x"}, "'a-b' is no label name"),
        ({"1a": "x"}, "is no label name"),
        ({"": "x"}, "is no label name"),
        ({"__name__": "x"}, "is no label name"),
        ({"ä": "x"}, "is no label name"),
        ({'a="1"} evil 1\n': "x"}, "is no label name"),
        ({"metric": "x"}, "'metric' is a label of the trainer"),
        ({"le": "x"}, "'le' is a label of the trainer"),
        ({"a": "x\ny"}, "metrics.labels.a"),
        ({"a": "x" * 129}, "at most 128"),
        ({f"l{n}": "x" for n in range(11)}, "has 11 labels"),
    ],
)
def test_f61_hostile_labels_are_refused(
    registry: CollectorRegistry, labels: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        Metrics(registry, labels=labels)
    assert not list(registry.collect())


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("ok", "ok"), ("404", "404"), ("503", "5xx"), ("500", "5xx"), ("401", "refused"),
        ("403", "refused"), ("credentials", "refused"), ("418", "other"), ("timeout", "timeout"),
    ],
)  # fmt: skip
def test_requests_end_in_one_of_a_few_ways(
    registry: CollectorRegistry, code: str, shown: str
) -> None:
    metrics = Metrics(registry)
    before = requests_by_code(registry)
    assert len(before) == len(CODES) <= 10
    assert set(before.values()) == {0}
    metrics.count_request("read", code, 1, is_repeated=False)
    assert requests_by_code(registry) == before | {shown: 1}


def requests_by_code(registry: CollectorRegistry) -> dict[str, float]:
    (family,) = [f for f in registry.collect() if f.name == "trainer_storage_requests"]
    return {
        sample.labels["code"]: sample.value
        for sample in family.samples
        if sample.name.endswith("_total") and sample.labels["operation"] == "read"
    }
