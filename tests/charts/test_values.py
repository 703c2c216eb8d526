"""A typo fails at install, in the chart's own values and in the trainer's configuration."""

import json
import re

import pytest
import yaml

from scripts.chart_schema import config_defaults
from tests.charts.rendered import GROUP, MONITORING, ONE, TRAINER, helm, merged, objects, refusal
from trainer import __version__
from trainer.config.models import RunConfig


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"worker": 3}, "additional properties 'worker' not allowed"),
        ({"image__repo": "x"}, "'/image': additional properties 'repo' not allowed"),
        ({"workers": 0}, "/workers"),
        ({"workload__kind": "Deployment"}, "/workload/kind"),
        ({"run__base": "s3://bucket"}, "/run/base"),
        ({"image__digest": "latest"}, "/image/digest"),
        ({"claims": [{"claimName": "x", "mountPath": "relative"}]}, "/claims/0/mountPath"),
        ({"extraEnv": [{"value": "x"}]}, "'/extraEnv/0': missing property 'name'"),
        ({"volumes": [{"emptyDir": {}}]}, "'/volumes/0': missing property 'name'"),
        ({"volumeMounts": [{"name": "x"}]}, "'/volumeMounts/0': missing property 'mountPath'"),
        ({"config__train__epocs": 3}, "'/config/train': additional properties 'epocs' not allowed"),
        ({"config__train__epochs": "many"}, "/config/train/epochs"),
        ({"config__data__batch_size": 0}, "/config/data/batch_size"),
        ({"config__checkpoint__every_seconds": "often"}, "/config/checkpoint/every_seconds"),
        ({"config__params": {"filtres": 8}}, "additional properties 'filtres' not allowed"),
        ({"config__params__learning_rate": "0.001"}, "/config/params/learning_rate"),
        ({"config__metrics": {"labels": {"version": "1"}}}, "/config/metrics/labels/version"),
        ({"config__metrics": {"labels": {"__a": "1"}}}, "/config/metrics/labels/__a"),
        ({"config__metrics": {"labels": {"a-b": "1"}}}, "/config/metrics/labels': additional"),
        ({"config__metrics": {"labels": {"a": 1}}}, "/config/metrics/labels/a"),
        ({"config__train": {}}, "missing property 'epochs'"),
        ({"config": {"recipe": "fashion_mnist"}}, "missing properties 'data', 'train'"),
    ],
)
def test_what_the_schema_refuses(changes, said):
    assert said in refusal(merged(GROUP, **changes))


def test_parameters_of_other_recipes_are_their_pods_matter():
    own = merged(GROUP, config__recipe="mine.recipe:recipe", config__params={"filtres": 8})
    assert objects(own)["Job"]


def test_null_has_an_answer_of_the_schemas_or_means_nothing():
    schema = json.loads((TRAINER / "values.schema.json").read_text())
    sections = set(schema["required"]) - {"config"}
    said = refusal(ONE | dict.fromkeys(sections))
    assert "missing properties" in said
    assert all(f"'{name}'" in said for name in sections)
    others = schema["properties"].keys() - schema["required"] - {"global"}
    assert objects(ONE | dict.fromkeys(others)).keys() == objects(ONE).keys()


@pytest.mark.parametrize("command", ["helm", "helm3"])
def test_both_helms_refuse_a_typo(command):
    values = merged(ONE, config__checkpoint={"evry_steps": 5})
    found = helm(
        "template", "demo", TRAINER, "--kube-version=1.35.0", values=values, command=command
    )
    assert found.returncode != 0
    assert "evry_steps" in found.stderr


@pytest.mark.parametrize("chart", [TRAINER, MONITORING], ids=lambda chart: chart.name)
def test_every_value_is_in_the_schema_and_explained(chart):
    schema = json.loads((chart / "values.schema.json").read_text())
    values = yaml.safe_load((chart / "values.yaml").read_text())
    assert values.keys() == schema["properties"].keys() - {"global"}
    rows = re.findall(r"^\| (\S+) \| \w+ \| .* \|(.*)\|$", (chart / "README.md").read_text(), re.M)
    assert len(rows) > 5
    assert not [name for name, text in rows if not text.strip()]


def test_defaults_are_the_trainers():
    defaults = config_defaults()
    assert defaults["cluster"]["port"] == RunConfig.model_fields["cluster"].default_factory().port
    used = re.findall(
        r'"trainer.setting" \(list [$.]\w* "(\w+)" "(\w+)"\)',
        "".join(path.read_text() for path in (TRAINER / "templates").rglob("*.*")),
    )
    assert len(set(used)) >= 8
    assert all(key in defaults[section] for section, key in used)


@pytest.mark.parametrize("chart", [TRAINER, MONITORING], ids=lambda chart: chart.name)
def test_a_charts_version_is_the_trainers(chart):
    found = yaml.safe_load((chart / "Chart.yaml").read_text())
    assert found["version"] == found["appVersion"] == __version__
    assert found["annotations"]["artifacthub.io/license"] == "Apache-2.0"
