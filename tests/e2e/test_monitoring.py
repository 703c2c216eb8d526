"""Two runs beside one monitoring chart: its rules and panels tell them apart."""

from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.checks import check
from tests.e2e.kube import command, wait_until
from tests.e2e.prometheus import Prometheus
from tests.e2e.run import now
from tests.e2e.values import SAVE_EVERY, configuration
from tests.monitored import OF_GPUS, panels

CHART = Path(__file__).parents[2] / "helm" / "trainer-monitoring"
RELEASE = "trainer-monitoring"
PAIR = ("left", "right")
# As this Prometheus scrapes.
SCALED = ("--set=rules.interval=2s", "--set=rules.window=10s")
# On the pages for one scrape, at the end of a run.
LAST_WORDS = "run:trainer_run_exit_code:max"

_STEPPING = f'rate(trainer_steps_total{{pod=~"({"|".join(PAIR)})-.*"}}[10s]) > 0'


@pytest.fixture
def prometheus():
    """With the rules of the chart, which is installed once for all runs."""
    prometheus = Prometheus()
    helm = ("helm", f"--namespace={prometheus.kube.namespace}")
    command(*helm, "upgrade", "--install", RELEASE, str(CHART), *SCALED)

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
    config["train"]["gradient_norm"] = True  # it has a panel
    return lambda *names: [make_run(name, workers=2, config=config) for name in names]


def test_two_runs_are_told_apart(prometheus, small_runs, kube, tell):
    start = train_side_by_side(prometheus, small_runs, tell)
    window = {"start": start, "end": now()}
    loaded = prometheus.rules()
    healthy = {rule["name"]: rule["health"] for rule in loaded}
    tell(f"rules in Prometheus: {healthy}")
    assert set(healthy.values()) == {"ok"}, loaded
    recorded = {rule["name"] for rule in loaded if rule["type"] == "recording"}
    for name in sorted(recorded - {LAST_WORDS}):
        found = Counter(one["metric"].get("run") for one in prometheus.over(name, **window))
        tell(f"series {dict(found)} of {name}")
        assert set(found) >= set(PAIR), name
    held = prometheus.kube.get("configmap", f"{RELEASE}-dashboards")["data"]
    queries = list(panels(held.values(), namespace=kube.namespace, worker=".+"))
    empty = {where for where, expr in queries if not prometheus.over(expr, **window)}
    tell(f"{len(queries)} queries of panels; without a series: {sorted(empty)}")
    assert empty <= OF_GPUS | {"Training run: Exit code"}


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
