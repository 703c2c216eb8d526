"""The metrics page of real training processes."""

import re
import socket
import subprocess
import time
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.harness import Life, Run


def gate(at: int, path: object) -> dict[str, object]:
    args = {"at": at, "path": str(path)}
    return {"name": "tests.faults.inject:GateAt", "args": args, "stateless": True}


def scrape(life: Life) -> dict[str, float]:
    """Samples without labels, by name."""
    with urllib.request.urlopen(life.wait_for("metrics")["url"], timeout=10) as page:
        families = list(text_string_to_metric_families(page.read().decode()))
    return {s.name: s.value for family in families for s in family.samples if not s.labels}


def labelled(life: Life) -> dict[tuple[str, str], float]:
    """Samples by name and the value of their only label, if they have one."""
    with urllib.request.urlopen(life.wait_for("metrics")["url"], timeout=10) as page:
        families = list(text_string_to_metric_families(page.read().decode()))
    return {
        (s.name, next(iter(s.labels.values()), "")): s.value
        for family in families for s in family.samples if len(s.labels) < 2
    }  # fmt: skip


def at_gate(run: Run, at: int, path: object, **settings: object) -> tuple[Life, dict[str, float]]:
    """Start, scrape once when `at` steps of this life are done, and go on."""
    life = run.start(
        callbacks=[gate(at, path)], metrics__enabled=True, metrics__port=0,
        train__steps_per_call=1, **settings,
    )  # fmt: skip
    fired = len(run.fired())
    deadline = time.monotonic() + 60
    while len(run.fired()) == fired and time.monotonic() < deadline:
        time.sleep(0.01)
    return life, scrape(life)


def test_f57_taken_port_trains_on_without_the_page(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        life = run.train(train__epochs=1, metrics__enabled=True, metrics__port=port)
    assert life.code == 0, life.text()
    (event,) = life.events("metrics are not served")
    assert str(port) in event["reason"]
    assert "metrics.port" in event["reason"]


def test_f57_taken_port_takes_the_next_by_config(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = {"metrics__port": port, "metrics__on_taken_port": "next"}
        life = run.train(train__epochs=1, metrics__enabled=True, **settings)
    assert life.code == 0, life.text()
    served = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/metrics", life.events("metrics")[0]["url"])
    assert port < int(served[1]) <= port + 20


def test_f58_a_hundred_scrapes_a_second(run, tmp_path):
    life, _ = at_gate(run, 2, tmp_path / "open", train__epochs=1000)
    (tmp_path / "open").touch()
    url = life.events("metrics")[0]["url"]
    pages, started = [], time.monotonic()
    while len(pages) < 150:
        with urllib.request.urlopen(url, timeout=10) as page:
            pages.append(page.read())
    seconds = time.monotonic() - started
    life.signal(9)
    life.wait()
    # Each step changes the page, so as many pages differ as were rendered: one a second.
    assert len(set(pages)) <= seconds + 2
    assert len(pages) / seconds > 50, "too slow to show anything"


def test_f60_a_restart_never_misleads_rate(run, tmp_path):
    first, before = at_gate(run, 7, tmp_path / "never", checkpoint__background=False)
    first.signal(9)
    assert first.wait() == -9
    second, after = at_gate(run, 2, tmp_path / "open")
    (tmp_path / "open").touch()
    assert second.wait() == 0, second.text()
    # Seven steps, of which four were saved; then two. A counter that went on from the
    # checkpoint would read as a reset to 6 and add six steps that never were.
    assert before["trainer_steps_total"] == 7
    assert before["trainer_global_step"] <= 7
    assert after["trainer_steps_total"] == 2
    assert second.events("restore")[0]["step"] == 4
    assert before["trainer_checkpoint_blocked_seconds_total"] > 0


def test_counters_are_there_before_the_first_event(run, tmp_path):
    life, page = at_gate(run, 1, tmp_path / "open")
    (tmp_path / "open").touch()
    assert life.wait() == 0
    for name in ("checkpoint_fallbacks", "checkpoint_restores", "nonfinite_steps"):
        assert page[f"trainer_{name}_total"] == 0


@pytest.mark.needs_prometheus
def test_the_page_passes_prometheus_own_check(run, tmp_path):
    life, _ = at_gate(run, 9, tmp_path / "open", metrics__labels={"team": "night"})
    with urllib.request.urlopen(life.events("metrics")[0]["url"], timeout=10) as page:
        text = page.read()
    (tmp_path / "open").touch()
    assert life.wait() == 0, life.text()
    check = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert check.returncode == 0, check.stdout.decode() + check.stderr.decode()
    assert b'team="night"' in text
