"""Rules and dashboards: where they are, what they ask for, and that an alert fires."""

import json
import re
import subprocess

import pytest
import yaml

from tests.charts.rendered import MONITORING, PROMETHEUS_RULE, ROOT, helm, rendered

METRICS = {
    line.split()[0]: line.split()[1]
    for line in (ROOT / "tests/contracts/golden/metrics.txt").read_text().splitlines()
}
SERIES = {
    name + suffix
    for name, kind in METRICS.items()
    for suffix in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))
}
# Run `a` stops at minute 10, its pod 1 a little earlier; run `b` goes on.
STALL = """
rule_files: [rules.yaml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: 'trainer_last_step_timestamp_seconds{namespace="ml", pod="a-0", instance="1:9400"}'
        values: "0+60x10 600x60"
      - series: 'trainer_last_step_timestamp_seconds{namespace="ml", pod="a-1", instance="2:9400"}'
        values: "0+60x9 540x61"
      - series: 'trainer_last_step_timestamp_seconds{namespace="ml", pod="b-0", instance="3:9400"}'
        values: "0+60x70"
      - series: 'trainer_run_info{namespace="ml", pod="a-0", instance="1:9400", run="a"}'
        values: "1x70"
      - series: 'trainer_run_info{namespace="ml", pod="a-1", instance="2:9400", run="a"}'
        values: "1x70"
      - series: 'trainer_run_info{namespace="ml", pod="b-0", instance="3:9400", run="b"}'
        values: "1x70"
    alert_rule_test:
      - {eval_time: 25m, alertname: TrainingStalled, exp_alerts: []}
      - eval_time: 30m
        alertname: TrainingStalled
        exp_alerts:
          - exp_labels: {severity: warning, namespace: ml, run: a}
            exp_annotations:
              summary: Run a makes no steps
              description: Run a in namespace ml made its last step 20m 0s ago.
"""


def objects_of(values, *words):
    text = rendered(values, *words, chart=MONITORING)
    return {one["metadata"]["name"]: one for one in yaml.safe_load_all(text) if one}


def rules():
    return objects_of({})["demo-rules"]["data"]["trainer.yaml"]


def queries():
    found = [rule["expr"] for group in yaml.safe_load(rules())["groups"] for rule in group["rules"]]
    for path in sorted((MONITORING / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            found += [target["expr"] for target in panel["targets"]]
    return found


def test_rules_are_an_object_of_the_operators_where_it_is():
    values = {"rules": {"labels": {"release": "prometheus"}, "stalledSeconds": 300}}
    found = objects_of(values, "--api-versions", PROMETHEUS_RULE)
    assert found.keys() == {"demo", "demo-dashboards"}
    assert found["demo"]["kind"] == "PrometheusRule"
    assert found["demo"]["metadata"]["labels"]["release"] == "prometheus"
    (rule,) = found["demo"]["spec"]["groups"][0]["rules"]
    assert rule["expr"].strip().endswith("> 300")


def test_and_a_config_map_where_it_is_not():
    assert objects_of({}).keys() == {"demo-rules", "demo-dashboards"}
    labels = objects_of({})["demo-dashboards"]["metadata"]["labels"]
    assert labels["grafana_dashboard"] == "1"


def test_both_can_be_left_out():
    off = {"rules": {"enabled": False}, "dashboards": {"enabled": False}}
    assert objects_of(off, "--api-versions", PROMETHEUS_RULE) == {}


def test_every_query_asks_for_series_that_exist():
    names = [set(re.findall(r"\btrainer_\w+", query)) for query in queries()]
    assert len(names) >= 2
    assert all(names)
    assert set().union(*names) <= SERIES


def test_a_runbook_is_linked_to_its_heading():
    page = "https://wiki.example/kubernetes"
    values = {"rules": {"runbook": page}}
    (group,) = yaml.safe_load(objects_of(values)["demo-rules"]["data"]["trainer.yaml"])["groups"]
    headings = re.findall(r"^#+ (.*)$", (ROOT / "docs/kubernetes.md").read_text(), re.MULTILINE)
    anchors = [f"{page}#{one.lower().replace(' ', '-')}" for one in headings]
    assert {rule["annotations"]["runbook_url"] for rule in group["rules"]} <= set(anchors)


def test_every_alert_says_what_it_means():
    for group in yaml.safe_load(rules())["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"].keys() == {"summary", "description"}
            assert {"for", "labels"} <= rule.keys()


@pytest.mark.needs_prometheus
def test_f63_a_run_that_stands_still_raises_one_alert(tmp_path):
    (tmp_path / "rules.yaml").write_text(rules())
    (tmp_path / "stall.yaml").write_text(STALL)
    command = ["promtool", "test", "rules", str(tmp_path / "stall.yaml")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
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
        ({"rules": None}, "missing property 'rules'"),
    ],
)
def test_what_the_schema_refuses(values, said):
    assert said in helm("template", "demo", MONITORING, values=values).stderr
