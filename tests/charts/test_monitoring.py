"""The chart of rules and dashboards: where they are, what can be set, and that each alert fires."""

import subprocess
from functools import cache
from itertools import count
from pathlib import Path

import pytest
import yaml

from scripts.monitoring import rules
from tests.charts.rendered import MONITORING, PROMETHEUS_RULE, helm, notes, rendered

ALERTS = Path(__file__).with_name("alerts")


def objects_of(values, *words):
    text = rendered(values, *words, chart=MONITORING)
    return {one["metadata"]["name"]: one for one in yaml.safe_load_all(text) if one}


def rules_file(values):
    return objects_of(values)["demo-rules"]["data"]["trainer.yaml"]


@cache
def by_default():
    """The file of rules as it is without values."""
    return rules_file({})


def alerts(text):
    (group,) = yaml.safe_load(text)["groups"]
    return [rule for rule in group["rules"] if "alert" in rule]


def test_rules_are_an_object_of_the_operators_where_it_is():
    values = {"rules": {"labels": {"release": "prometheus"}}}
    found = objects_of(values, "--api-versions", PROMETHEUS_RULE)
    assert found.keys() == {"demo", "demo-dashboards"}
    assert found["demo"]["kind"] == "PrometheusRule"
    assert found["demo"]["metadata"]["labels"]["release"] == "prometheus"
    assert found["demo"]["spec"] == yaml.safe_load(by_default())


def test_without_helm_they_are_the_same():
    assert rules({}) == yaml.safe_load(by_default())
    changes = {"window": "1m", "disabled": ["JobFailed"], "alerts": {"inputBound": {"ratio": 0.2}}}
    assert rules(changes) == yaml.safe_load(rules_file({"rules": changes}))


def test_and_a_config_map_where_it_is_not():
    assert objects_of({}).keys() == {"demo-rules", "demo-dashboards"}
    labels = objects_of({})["demo-dashboards"]["metadata"]["labels"]
    assert labels["grafana_dashboard"] == "1"


def test_both_can_be_left_out():
    off = {"rules": {"enabled": False}, "dashboards": {"enabled": False}}
    assert objects_of(off, "--api-versions", PROMETHEUS_RULE) == {}


def test_every_setting_of_an_alert_is_in_a_rule():
    values = yaml.safe_load((MONITORING / "values.yaml").read_text())["rules"]["alerts"]
    numbers = count(7001)
    changed = {
        alert: {key: another(value, next(numbers)) for key, value in settings.items()}
        for alert, settings in values.items()
    }
    text = rules_file({"rules": {"alerts": changed}})
    wanted = {str(value) for settings in changed.values() for value in settings.values()}
    assert not {value for value in wanted if value not in text}
    assert "${" not in text


def another(value, number):
    """A value of the same type that no other setting has."""
    if isinstance(value, str):
        return f"{number}s"
    return number / 10_000 if isinstance(value, float) else number


def test_an_alert_can_be_left_out():
    names = {rule["alert"] for rule in alerts(by_default())}
    text = rules_file({"rules": {"disabled": ["InputBound", "JobFailed"]}})
    left = {rule["alert"] for rule in alerts(text)}
    assert names - left == {"InputBound", "JobFailed"}


def test_every_alert_says_what_it_means_and_links_to_its_heading():
    found = alerts(rules_file({"rules": {"runbook": "https://wiki.example/runbook"}}))
    assert len(found) >= 12
    for rule in found:
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        url = f"https://wiki.example/runbook#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"] == url
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}


# What of `rules` is set, and whether the notes say that links of alerts lead nowhere yet.
@pytest.mark.parametrize(
    ("rules", "is_said"),
    [({}, True), ({"runbook": "https://wiki.example/runbook"}, False), ({"enabled": False}, False)],
)
def test_the_notes_say_how_links_of_alerts_come_to_lead_somewhere(rules, is_said):
    said = notes({"rules": rules}, MONITORING)
    assert ("--set rules.runbook=https://" in said) == is_said


def test_each_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not():
    names = {rule["alert"] for rule in alerts(by_default())}
    assert {path.stem for path in ALERTS.iterdir()} == names
    for path in ALERTS.iterdir():
        tests = yaml.safe_load(path.read_text())["tests"]
        expected = [at["exp_alerts"] for test in tests for at in test["alert_rule_test"]]
        assert any(expected), path.name
        assert not all(expected), path.name
        assert {at["alertname"] for test in tests for at in test["alert_rule_test"]} == {path.stem}


@pytest.mark.needs_prometheus
def test_f63_alerts_fire_when_they_are_meant_to_and_else_not(tmp_path):
    (tmp_path / "rules.yaml").write_text(by_default())
    for path in ALERTS.iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    files = sorted(path.name for path in ALERTS.iterdir())
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", *files]):
        found = subprocess.run(
            ["promtool", *command], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("part", ["rules", "dashboards"])
def test_labels_of_the_charts_own_are_refused(part):
    values = {part: {"labels": {"app.kubernetes.io/name": "x"}}}
    said = helm("template", "demo", MONITORING, values=values).stderr
    assert f"at '/{part}/labels/app.kubernetes.io~1name'" in said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rules": {"enable": True}}, "additional properties 'enable' not allowed"),
        ({"rules": {"runbook": "docs/kubernetes.md"}}, "/rules/runbook"),
        ({"rules": {"disabled": ["InputBond"]}}, "/rules/disabled/0"),
        ({"rules": {"window": "5 minutes"}}, "/rules/window"),
        ({"rules": {"alerts": {"inputBound": {"ratio": 30}}}}, "/rules/alerts/inputBound/ratio"),
        ({"rules": {"alerts": {"inputBound": {"share": 0.3}}}}, "/rules/alerts/inputBound"),
        ({"rules": None}, "missing property 'rules'"),
    ],
)
def test_what_the_schema_refuses(values, said):
    assert said in helm("template", "demo", MONITORING, values=values).stderr
