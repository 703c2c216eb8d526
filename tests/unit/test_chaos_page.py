"""What `make chaos` keeps, and docs/chaos.md says of it."""

import json
import subprocess
import sys
from textwrap import dedent

import pytest

from scripts.chaos import BEGIN, END, page
from scripts.results import keep

TIMES = {"p50": 0.1, "p95": 0.2, "max": 0.3}
ROW = {"count": 2, "recovered": 1, "detected": TIMES, "gathered": {}, "restored": TIMES}
FOUND = {
    "date": "2026-01-02T03:04:05+00:00", "commit": "abc", "machine": "Linux, 2 cores",
    "versions": {"python": "3.11.7"}, "equal": True, "problems": [], "steps": 90, "lost_steps": 0,
    "redone_steps": 7, "generations": 3, "redone_steps_per_generation": {"p50": 3},
    "recovery": {"kill worker": {**ROW, "first_step": TIMES}}, "seconds": 50.0, "productive": 0.5,
    "undisturbed_seconds": 20.0, "undisturbed_productive": 0.9, "goodput": {"step": 20.0},
    "sha256": "1" * 64, "undisturbed_sha256": "1" * 64,
}  # fmt: skip


def test_the_last_result_is_written_with_commit_and_versions(tmp_path):
    keep(FOUND | {"date": "2026-01-01T00:00:00+00:00", "commit": "older"}, "-chaos", tmp_path)
    keep(FOUND, "-chaos", tmp_path)
    text = page(f"before\n{BEGIN}old\n{END}after\n", tmp_path)
    assert text.startswith(
        f"before\n{BEGIN}\n2026-01-02, commit abc; Linux, 2 cores; python 3.11.7"
    )
    assert "| kill worker | 2 | 1 | 0.1 / 0.2 / 0.3 | - | 0.1 / 0.2 / 0.3 |" in text
    assert "| steps | 90, lost 0 |" in text
    assert text.endswith(f"{END}after\n")
    assert page(text, tmp_path) == text


def test_a_result_that_is_not_equal_says_so(tmp_path):
    keep(FOUND | {"equal": False, "problems": ["no step"]}, "-chaos", tmp_path)
    text = page(f"{BEGIN}{END}", tmp_path)
    assert "| result | NOT EQUAL |" in text
    assert "| problem | no step |" in text


def test_no_result_is_said_to_be_none(tmp_path):
    assert page(f"{BEGIN}{END}", tmp_path) == f"{BEGIN}\nNone was kept yet.\n{END}"


# Arguments; what trainer was told beside them, and how many results there are after it.
@pytest.mark.parametrize(
    ("arguments", "as_json", "kept"), [([], True, 1), (["--kills", "5"], False, 0)]
)
def test_a_whole_campaign_is_kept_and_ends_as_it_did(tmp_path, arguments, as_json, kept):
    line = {"event": "fault", "level": "info", "timestamp": "2026-01-02T03:04:05Z", "pid": 71}
    found = {name: value for name, value in FOUND.items() if name not in ("date", "commit")}
    trainer = tmp_path / "trainer"
    said = f"{json.dumps(line)}\n{json.dumps({'event': 'chaos', **found})}"
    trainer.write_text(
        f"#!{sys.executable}\nimport sys\nprint('trainer', *sys.argv[1:], file=sys.stderr)\n"
        f"print({said!r})\nexit(1)\n"
    )
    trainer.chmod(0o755)
    code = f"""
        from pathlib import Path
        from scripts.chaos import main
        exit(main({arguments}, Path({str(tmp_path)!r}), Path({str(trainer)!r})))
    """
    command = [sys.executable, "-c", dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert ("--json" in done.stderr.split()) == as_json
    assert all(word in done.stderr.split() for word in ("chaos", "--kills", *arguments))
    results = [json.loads(file.read_text()) for file in tmp_path.glob("*-chaos.json")]
    assert len(results) == kept
    if kept:
        assert "pid=71" in done.stdout
        assert "equal to the undisturbed run's" in done.stdout
        assert {"date", "commit", "versions"} <= results[0].keys()
        assert results[0]["recovery"] == FOUND["recovery"]
