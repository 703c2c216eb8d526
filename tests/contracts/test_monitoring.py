"""Code, docs, rules, dashboards and chart speak of the same metrics, and of no others."""

import json
import re
from pathlib import Path

import pytest
import yaml

from trainer.goodput import CAUSES, PHASES
from trainer.metrics import describe
from trainer.metrics.registry import CODES, OPERATIONS, RESTART_CAUSES

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "trainer-monitoring"
DASHBOARDS = sorted((CHART / "dashboards").glob("*.json"))
RULES = [
    rule
    for name in ("recorded", "alerts")
    for rule in yaml.safe_load((CHART / "rules" / f"{name}.yaml").read_text())
]
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
ALERTS = {rule["alert"] for rule in RULES if "alert" in rule}
# Labels by name of series; a histogram is three of them.
SERIES = {
    metric.name + suffix: {*metric.labels, *more}
    for metric in describe()
    for suffix, more in (
        (("_bucket", ["le"]), ("_sum", []), ("_count", []))
        if metric.kind == "histogram"
        else (("", []),)
    )
}
TARGET = {"namespace", "pod", "instance", "job"}
# Of kube-state-metrics and of NVIDIA's dcgm-exporter.
FOREIGN = {
    "kube_job_failed": {"condition", "job_name"},
    "kube_pod_owner": {"owner_kind", "owner_name"},
    "kube_pod_container_info": {"container"},
    "DCGM_FI_DEV_GPU_UTIL": {"gpu"},
}
CAUSES_OF = {
    "trainer_goodput_seconds_total": set(CAUSES),
    "trainer_worker_restarts_total": set(RESTART_CAUSES),
}
VALUES = {
    "phase": set(PHASES),
    "code": set(CODES),
    "operation": set(OPERATIONS),
    "result": {"success", "failure"},
    "split": {"train", "validation"},
}
_SELECTOR = re.compile(r"\b(run:\w+:\w+|trainer_\w+|kube_\w+|DCGM_\w+)\b(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(=~|!=|=)\s*\"([^\"]*)\"")


def strings(value, *keys):
    """All texts under these keys, at any depth."""
    if isinstance(value, list):
        return [text for one in value for text in strings(one, *keys)]
    if not isinstance(value, dict):
        return []
    deeper = [text for one in value.values() for text in strings(one, *keys)]
    return deeper + [value[key] for key in keys if isinstance(value.get(key), str)]


def queries():
    """Every expression, and where it stands."""
    found = [(rule.get("record", rule.get("alert")), rule["expr"]) for rule in RULES]
    for path in DASHBOARDS:
        texts = strings(json.loads(path.read_text()), "expr", "query", "definition")
        found += [(path.name, text) for text in texts]
    return found


QUERIES = queries()
NAMED = {name for _, expr in QUERIES for name, _ in _SELECTOR.findall(expr)}


def labels_of(name):
    """What may be selected of a series; a recorded one has what it, or its first part, has."""
    if name in RECORDED:
        by = re.search(r"\bby \(([^)]*)\)", RECORDED[name])
        return set(by[1].split(", ")) if by else labels_of(first_part(name))
    return TARGET | (SERIES | FOREIGN)[name]


def values_of(name, label):
    """What a label of a series may be; None where that is not known."""
    if name in RECORDED:
        return values_of(first_part(name), label)
    return CAUSES_OF[name] if label == "cause" else VALUES.get(label)


def first_part(name):
    """Of a recorded series."""
    return _SELECTOR.search(RECORDED[name])[1]


def unknown(expr):
    """What an expression asks for that nothing has: names, labels and their values."""
    found = []
    for name, matchers in _SELECTOR.findall(expr):
        if name not in SERIES.keys() | RECORDED.keys() | FOREIGN.keys():
            found.append(name)
            continue
        for label, _, value in _MATCHER.findall(matchers):
            if label not in labels_of(name):
                found.append(label)
            elif "$" not in value and (known := values_of(name, label)) is not None:
                found += sorted(set(value.split("|")) - known)
    return found


@pytest.mark.parametrize(("where", "expr"), QUERIES)
def test_a_query_asks_for_series_that_exist_by_labels_that_they_have(where, expr):
    assert not unknown(expr), where


# A query, and what of it nothing has.
@pytest.mark.parametrize(
    ("expr", "found"),
    [
        ("rate(trainer_step_total[5m])", "trainer_step_total"),
        ('trainer_loss{cause="step"}', "cause"),
        ('trainer_phase{phase=~"compile|validate"}', "validate"),
        ('trainer_goodput_seconds_total{cause="hung"}', "hung"),
        ('trainer_worker_restarts_total{cause="step"}', "step"),
        ('run:trainer_goodput_seconds:rate{cause!="hung"}', "hung"),
    ],
)
def test_a_query_for_what_is_not_there_is_found(expr, found):
    assert unknown(expr) == [found]


def test_queries_were_found():
    assert len(QUERIES) >= len(RULES) + len(DASHBOARDS)
    assert all(_SELECTOR.search(rule["expr"]) for rule in RULES)


def test_every_recorded_series_is_asked_for():
    assert RECORDED.keys() <= NAMED


def test_every_metric_is_asked_for():
    found = {m.name for m in describe() if any(name.startswith(m.name) for name in NAMED)}
    assert found == {metric.name for metric in describe()}


def test_no_expression_is_written_twice():
    written = [" ".join(rule["expr"].split()) for rule in RULES]
    assert len(written) == len(set(written))


PAGES = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "helm").rglob("*.md"), ROOT / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_no_metric_that_does_not_exist(page):
    words = r"(?:run:trainer_[\w:]*\w|\b(?:trainer|kube|DCGM)_[A-Za-z_]*[A-Za-z]\b)"
    named = set(re.findall(words, page.read_text()))
    metrics = {metric.name for metric in describe()}
    assert named <= SERIES.keys() | metrics | RECORDED.keys() | FOREIGN.keys()


def test_every_alert_has_its_heading_in_the_runbook():
    headings = re.findall(r"^## (.*)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(ALERTS)


def test_settings_are_of_alerts_that_exist():
    settings = yaml.safe_load((CHART / "values.yaml").read_text())["rules"]["alerts"]
    assert {name[:1].upper() + name[1:] for name in settings} == ALERTS
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(schema["$defs"]["Alert"]["enum"]) == ALERTS
    runbook = (ROOT / "docs/runbook.md").read_text()
    keys = {f"{name}.{key}" for name, all_of_it in settings.items() for key in all_of_it}
    named = set(re.findall(r"`(\w+\.(?:seconds|for|window|ratio|restarts))`", runbook))
    assert named <= keys


def test_the_page_of_alerts_has_each_with_its_severity():
    rows = re.findall(
        r"^\| ([A-Z]\w+) \| (\w+) \|", (ROOT / "docs/monitoring.md").read_text(), re.MULTILINE
    )
    assert set(rows) == {(r["alert"], r["labels"]["severity"]) for r in RULES if "alert" in r}


def test_the_page_has_the_rows_of_the_dashboard():
    page = (ROOT / "docs/monitoring.md").read_text()
    panels = json.loads((CHART / "dashboards/run.json").read_text())["panels"]
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert re.findall(r"^\| ([A-Z]\w+(?: \w+)*) \| (?!\w+ \|)", page, re.MULTILINE) == rows


def test_the_exporter_of_gpus_is_scraped_with_its_own_labels():
    page = (ROOT / "docs/monitoring.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert [one["honorLabels"] for one in yaml.safe_load(example)["spec"]["endpoints"]] == [True]


def test_containers_are_given_files_that_are_there():
    folder = ROOT / "docker/monitoring"
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    assert services.keys() == {"prometheus", "alertmanager", "grafana"}
    mounts = [mount.split(":")[0] for one in services.values() for mount in one["volumes"]]
    ours = [mount for mount in mounts if mount.startswith(".")]
    assert len(ours) == 3
    assert not [mount for mount in ours if not (folder / mount).exists()]
