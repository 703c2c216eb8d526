"""Two runs beside one monitoring chart: its rules and panels tell them apart."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.checks import check
from tests.e2e.kube import command, wait_until
from tests.e2e.prometheus import Prometheus
from tests.e2e.run import now
from tests.e2e.values import SAVE_EVERY, configuration

CHART = Path(__file__).parents[2] / "helm" / "trainer-monitoring"
RELEASE = "trainer-monitoring"
PAIR = ("left", "right")
# What Grafana puts in place of its own variables; in place of a dashboard's, all that there is.
_INTERVAL = re.compile(r"\$\{?__\w+\}?")
_VARIABLE = re.compile(r"\$(\w+|\{[^}]+\})")
_VALUES = re.compile(r"label_values\((.+),\s*(\w+)\)")
# An alert's expression has no series while all is well; without its threshold it has.
_THRESHOLD = re.compile(r"\s*[<>=!]=?\s*(bool\s+)?-?[\d.]+\s*$")


_STEPPING = f'rate(trainer_steps_total{{pod=~"({"|".join(PAIR)})-.*"}}[10s]) > 0'


@pytest.fixture
def prometheus():
    """With the rules of the chart, which is installed once for all runs."""
    prometheus = Prometheus()
    helm = ("helm", f"--namespace={prometheus.kube.namespace}")
    command(*helm, "upgrade", "--install", RELEASE, str(CHART))

    def loaded():
        if prometheus.kube.find("configmap", f"{RELEASE}-rules"):  # no operator that would do it
            prometheus.load_rules()
        return prometheus.rules()

    wait_until("rules loaded", loaded, seconds=150)
    yield prometheus
    command(*helm, "uninstall", RELEASE)


@pytest.fixture
def small_runs(make_run):
    """Makes runs of two pods each, so that two of them fit two cores; twice as long as others."""
    config = configuration()
    config["train"]["epochs"] *= 2
    return lambda *names: [make_run(name, workers=2, config=config) for name in names]


def test_two_runs_are_told_apart(prometheus, small_runs, tell):
    moment = train_side_by_side(prometheus, small_runs, tell)
    healthy = {rule["name"]: rule["health"] for rule in prometheus.rules()}
    tell(f"rules in Prometheus: {healthy}")
    assert set(healthy.values()) == {"ok"}, prometheus.rules()
    for expression in rules(prometheus) | panels(prometheus):
        prometheus.query(expression, time=moment)
        series = prometheus.query(_THRESHOLD.sub("", expression), time=moment)
        found = Counter(one["metric"].get("run") for one in series)
        tell(f"series {dict(found)} of {' '.join(expression.split())}")
        assert set(found) == set(PAIR), series
        assert found[PAIR[0]] == found[PAIR[1]]
    named = named_series()
    tell(f"{len(named)} series are named by rules and dashboards")
    assert named <= prometheus.names()


def train_side_by_side(prometheus, small_runs, tell):
    """Two runs complete, one of them disturbed; a moment at which both made steps."""
    (alone,) = small_runs("alone")
    alone.install()
    undisturbed = alone.wait_until_complete()
    tell(f"one run of 2 pods, alone: {undisturbed.steps} steps")
    disturbed, other = small_runs(*PAIR)
    for run in (disturbed, other):
        run.install()
    moment = wait_until("both train", lambda: both_train(prometheus), seconds=240)
    disturbed.wait_for_step(2 * SAVE_EVERY)
    before = disturbed.moment()
    disturbed.kube.evict(disturbed.pod_name(1))
    tell(f"two such runs train side by side; a pod of {disturbed.name} is evicted")
    check(disturbed, undisturbed, before=before, unhurt=(0,), tell=tell)
    assert other.wait_until_complete() == undisturbed
    tell("both are complete, with the result of the one that was alone")
    return moment


def both_train(prometheus):
    """A moment at which all pods of both runs make steps, or None."""
    moment = now()
    return moment if len(prometheus.query(_STEPPING, time=moment)) == 4 else None


def rules(prometheus):
    """The expressions of all rules, as Prometheus has them."""
    return {rule["query"] for rule in prometheus.rules()}


def panels(prometheus):
    """The expressions of all panels and variables of the dashboards that were installed."""
    held = prometheus.kube.get("configmap", f"{RELEASE}-dashboards")["data"]
    dashboards = [json.loads(text) for text in held.values()]
    targets = {text for dashboard in dashboards for text in strings(dashboard, "expr")}
    variables = "\n".join(text for one in dashboards for text in strings(one, "query"))
    asked = {f"count by ({label}) ({what})" for what, label in _VALUES.findall(variables)}
    return {_VARIABLE.sub(".+", _INTERVAL.sub("1m", text)) for text in targets | asked}


def strings(value, key):
    """All texts under a key, at any depth."""
    if isinstance(value, list):
        return [text for one in value for text in strings(one, key)]
    if not isinstance(value, dict):
        return []
    deeper = [text for one in value.values() for text in strings(one, key)]
    return deeper + ([value[key]] if isinstance(value.get(key), str) else [])


def named_series():
    """The names of the trainer's series that the chart's files use."""
    found = (re.findall(r"\btrainer_[a-z_]+\b", file.read_text()) for file in CHART.rglob("*.*"))
    return {name for names in found for name in names}
