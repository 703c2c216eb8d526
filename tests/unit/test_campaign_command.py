"""`make campaign` where it does not train."""

import re

import pytest
from click.testing import CliRunner

from tests.campaign.__main__ import Campaign, campaign
from tests.campaign.plans import plans
from tests.campaign.results import open_results, this_head
from tests.unit.test_campaign_results import HEAD, OUTCOME
from trainer.errors import TrainerError


def run(*arguments, **environ):
    return CliRunner().invoke(campaign, arguments, env=environ)


def test_a_damaged_file_is_refused(tmp_path):
    results = open_results(tmp_path, this_head())
    results.file.write_text(results.file.read_text() + '{"outcome": {}}\n')
    result = run("--kills=1", "--only=local", f"--to={tmp_path}")
    assert result.exit_code == 2
    assert re.search(r"jsonl: line 2 is damaged or\s+cut off: remove it", result.output)
    assert not (tmp_path / "campaign.md").exists()


def test_a_store_that_is_not_there_is_named(tmp_path):
    result = run("--only=gs", f"--to={tmp_path}", PATH=str(tmp_path))
    assert (result.exit_code, [*tmp_path.iterdir()]) == (2, [])
    assert "fake-gcs-server is missing: make tools, or --only local" in result.output


def test_when_the_time_is_over_nothing_begins(tmp_path):
    result = run("--kills=1", "--minutes=0", "--only=local", f"--to={tmp_path}")
    assert result.exit_code == 0, result.output
    assert re.search(r"^0 kills, \d+ left; 0 trainings not equal$", result.output, re.MULTILINE)


def test_what_was_trained_by_code_that_changed_meanwhile_does_not_count(tmp_path):
    results = open_results(tmp_path, HEAD)
    with pytest.raises(TrainerError, match="the code has changed since the start"):
        Campaign(plans(0, 1, 1), results, None, None, None).keep(OUTCOME)
    assert not results.outcomes
