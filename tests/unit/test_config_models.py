"""Locations, addresses and labels of a configuration."""

import pytest
from pydantic import ValidationError

from trainer.config.locations import check_location
from trainer.config.models import LocationConfig, MetricsConfig, RunConfig, TrainConfig
from trainer.config.schema import json_schema, keys
from trainer.errors import ConfigError
from trainer.metrics import describe
from trainer.recipes.catalog import load_plain
from trainer.recipes.fashion_mnist import FashionMnistParams


@pytest.mark.parametrize(
    "location",
    ["runs/x", "/data/a b", "file:///data/x", "gs://bucket/x", "builtin:x", "a@b", "a.b/..c"],
)
def test_location(location):
    assert check_location(location) == location


@pytest.mark.parametrize(
    "location",
    ["", " ", "a\nb", "a\0b", "..", "../x", "a/../b", "gs://b/../c", "file:///a/%2e%2e/b", "~/x",
     "http://h/x", "s3://b", "ftp:x", "//h/x", "gs://u@b/x", "gs://b/x?y", "gs://b/x#y",
     "C:\\x", "a\\b"],
)  # fmt: skip
def test_location_that_is_refused(location):
    with pytest.raises(ValueError, match=r"must|supported"):
        check_location(location)


@pytest.mark.parametrize(
    "location", ["hunter2:x", "https://u:hunter2@h", "//u:hunter2@h/x", "hunter2:pw@h"]
)
def test_a_refused_location_is_not_shown(location):
    with pytest.raises(ValidationError) as caught:
        LocationConfig(dir=location)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("origin", ["runs/a", "runs/a@last", "runs/r@1200", "runs/a@b"])
def test_start_from(origin):
    assert TrainConfig(epochs=1, start_from=origin).start_from == origin


@pytest.mark.parametrize("origin", ["gs://u@b/r", "../r@3", "builtin:x", "gs://u:p@b/r@3", "@3"])
def test_start_from_that_is_refused(origin):
    with pytest.raises(ValidationError):
        TrainConfig(epochs=1, start_from=origin)


def test_layers_are_shared_with_another_run_or_not_at_all():
    assert TrainConfig(epochs=1, start_from="runs/a", start_layers="shared").start_layers
    with pytest.raises(ValidationError, match=r"set train\.start_from"):
        TrainConfig(epochs=1, start_layers="shared")


# F61
@pytest.mark.parametrize(
    "labels",
    [{"le": "x"}, {"run": "x"}, {"__a": "x"}, {"a-b": "x"}, {"a": 'x"} 1\n'}, {"a": "x" * 129},
     {"a": "é"}, {f"l{i}": "x" for i in range(11)}],
)  # fmt: skip
def test_hostile_label_is_refused(labels):
    with pytest.raises(ValidationError):
        MetricsConfig(labels=labels)


@pytest.mark.parametrize(
    "name", sorted({label for row in describe() for label in row.labels} | {"le", "quantile"})
)
def test_a_label_of_a_metric_is_refused_as_a_constant_one(name):
    with pytest.raises(ValidationError, match=f"'{name}' is used by the trainer"):
        MetricsConfig(labels={name: "x"})


@pytest.mark.parametrize("address", ["", "a b", "u:p@h", "http://h", "x" * 254])
def test_address_that_is_refused(address):
    with pytest.raises(ValidationError):
        MetricsConfig(address=address)


def test_every_key_has_help_and_every_leaf_a_kind():
    found = [*keys(RunConfig), *keys(FashionMnistParams, "params.")]
    assert [key.name for key in found if not key.help] == []
    assert [key.name for key in found if key.type != "section" and not key.kind] == []


def test_schema_describes_a_recipes_parameters():
    schema = json_schema(FashionMnistParams)
    assert schema["properties"]["params"] == {"$ref": "#/$defs/FashionMnistParams"}
    assert "learning_rate" in schema["$defs"]["FashionMnistParams"]["properties"]
    assert json_schema()["properties"]["params"]["type"] == "object"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["cluster.port=20005"], "cluster.port 20005 is one of cluster.port_range 20000-20999"),
        (["metrics.port=20500"], "metrics.port 20500 is one of cluster.port_range 20000-20999"),
        (["metrics.port=8470"], "metrics.port 8470 is also cluster.port: use another"),
    ],
)
def test_ports_that_are_taken_twice_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        load_plain("digits", settings)


def test_a_port_that_nothing_serves_is_free():
    assert load_plain("digits", ["metrics.enabled=false", "metrics.port=8470"])


def test_a_micro_batch_has_equally_many_records_of_every_stream():
    cut = ["data.streams=8", "train.accumulate_steps=2"]
    with pytest.raises(ConfigError, match=r"use a multiple of 16 \(16 or 32\)"):
        load_plain("digits", [*cut, "data.batch_size=24"])
    assert load_plain("digits", [*cut, "data.batch_size=32"])


@pytest.mark.parametrize(
    # what the run has, what one device is
    ("device", "replicas", "wanted"),
    [("gpu", 8, "auto"), ("auto", "auto", "auto"), ("cpu", 2, "cpu")],
)
def test_one_device_is_of_the_machine_unless_it_is_the_cpu(device, replicas, wanted):
    config = load_plain(
        "fashion_mnist", [f"cluster.device={device}", f"cluster.replicas={replicas}"]
    )
    assert config.on_one_device().cluster == config.cluster.model_copy(
        update={"device": wanted, "replicas": 1}
    )
    assert config.on_one_device().train == config.train
