"""The dashboards are what Grafana's schema allows, as scripts/dashboards.py makes them."""

import json
import subprocess
from itertools import combinations

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from scripts.dashboards import documents
from tests.monitored import DASHBOARDS, panels

TEXTS = {path.stem: path.read_text() for path in DASHBOARDS}


def test_they_are_current():
    written = {path: path.read_text() for path in DASHBOARDS}
    assert written == documents(), "make k8s"


@pytest.mark.parametrize("name", TEXTS)
def test_grafanas_own_types_read_all_of_it(name):
    content = json.loads(TEXTS[name])
    assert json.loads(json.dumps(Dashboard.from_json(content), cls=JSONEncoder)) == content


@pytest.mark.parametrize(("name", "chosen"), [("run", {"worker"}), ("runs", set())])
def test_it_has_a_name_that_stays_and_its_variables_and_marks(name, chosen):
    content = json.loads(TEXTS[name])
    assert content["uid"] == f"trainer-{name}"
    variables = {one["name"] for one in content["templating"]["list"]}
    assert variables == {"datasource", "namespace", "run"} | chosen
    assert {one["name"] for one in content["annotations"]["list"]} == {"Restarts", "Checkpoints"}


@pytest.mark.parametrize("name", TEXTS)
def test_panels_say_what_they_show_and_lie_beside_each_other(name):
    found = json.loads(TEXTS[name])["panels"]
    assert len({panel["id"] for panel in found}) == len(found)
    shown = [panel for panel in found if panel["type"] != "row"]
    assert all(panel["title"] and panel["description"] for panel in shown)
    for one, other in combinations([panel["gridPos"] for panel in found], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


@pytest.mark.parametrize("name", TEXTS)
def test_the_seconds_of_a_pause_do_not_flatten_where_the_time_goes(name):
    """They are counted at once when it is over: a second has many then."""
    shares = [
        panel for panel in json.loads(TEXTS[name])["panels"]
        if panel["type"] == "timeseries"
        and any("run:trainer_goodput_seconds:rate" in one["expr"] for one in panel["targets"])
    ]  # fmt: skip
    limits = [panel["fieldConfig"]["defaults"] for panel in shares]
    assert [(limit.get("min"), limit.get("max")) for limit in limits] == [(0, 1)]
    # Those of several runs come to as many.
    assert name == "run" or shares[0]["targets"][0]["expr"].startswith("avg by (cause) (")


@pytest.mark.needs_prometheus
def test_prometheus_parses_every_query(tmp_path):
    rules = [
        {"record": f"panel:{number}", "expr": expr} for number, (_, expr) in enumerate(panels())
    ]
    assert len(rules) > 50
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    command = ["promtool", "check", "rules", str(file)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
