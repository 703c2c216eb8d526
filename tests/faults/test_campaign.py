"""`make campaign`: stopped and continued, in a bucket with changing workers, and when it fails."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.campaign.plans import plans
from tests.campaign.results import read_results

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 200
# Of which the first training is the one that a test wants.
ALONE, CHANGING = 33, 15


class Campaign:
    """The command, with all that it writes in one folder."""

    def __init__(self, folder, seed, only):
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.output = folder / "output.txt"
        self.arguments = ["--kills=2", "--each=2", f"--seed={seed}", f"--only={only}"]
        [self.plan] = plans(seed, 2, 2, [only])

    def start(self):
        command = [sys.executable, "-m", "tests.campaign", *self.arguments, f"--to={self.folder}"]
        environ = os.environ | {"TMPDIR": str(self.temporary)}
        with self.output.open("wb") as file:
            return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=file, stderr=file)

    def run(self):
        with self.start() as process:
            return process.wait(DEADLINE_SECONDS)

    def events(self, name):
        lines = (line for line in self.output.read_text().splitlines() if line.startswith("{"))
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def wait_until(self, is_true, what):
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not is_true():
            assert time.monotonic() < deadline, f"no {what}:\n{self.output.read_text()}"
            time.sleep(0.05)

    @property
    def results(self):
        [file] = self.folder.glob("*.jsonl")
        return read_results(file)

    def has_processes(self):
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
        return str(self.temporary) in listed.stdout


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_campaign_that_is_stopped_leaves_nothing_behind_and_goes_on(tmp_path):
    campaign = Campaign(tmp_path, seed=ALONE, only="local")
    assert campaign.plan.world.workers == (1,)
    with campaign.start() as process:
        campaign.wait_until(lambda: campaign.events("fault"), "kill")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 143
    assert not [*campaign.temporary.iterdir()]
    campaign.wait_until(lambda: not campaign.has_processes(), "end of all processes")
    assert [*campaign.results.undisturbed] == [campaign.plan.world]
    assert not campaign.results.outcomes
    assert campaign.run() == 0, campaign.output.read_text()
    assert not campaign.events("undisturbed training")
    check(campaign)
    # All is done, so nothing is.
    assert campaign.run() == 0
    assert "2 kills, 0 left; 0 trainings not equal" in campaign.output.read_text()
    assert not campaign.events("training")


def check(campaign):
    """All kills happened, and the result was equal; what was needed for it is gone."""
    outcome = campaign.results.outcomes[campaign.plan]
    assert (outcome.problems, outcome.lost_steps) == ((), 0)
    assert Counter(kill.workers for kill in outcome.kills) == dict(
        zip(campaign.plan.world.workers, campaign.plan.kills, strict=True)
    )
    assert outcome.starts > 2
    assert outcome.goodput["down"] > 0
    assert not [*campaign.temporary.iterdir()]
    assert "every result was equal" in (campaign.folder / "campaign.md").read_text()


@pytest.mark.long
@pytest.mark.needs_gcs
@pytest.mark.timeout(400)
def test_workers_change_on_the_way_and_the_run_is_in_a_bucket(tmp_path):
    campaign = Campaign(tmp_path, seed=CHANGING, only="gs")
    assert campaign.plan.world.workers == (2, 1)
    assert campaign.run() == 0, campaign.output.read_text()
    check(campaign)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_result_that_differs_is_kept_and_ends_with_1(tmp_path):
    campaign = Campaign(tmp_path, seed=ALONE, only="local")
    with campaign.start() as process:
        campaign.wait_until(lambda: campaign.events("training"), "undisturbed training")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_SECONDS) == 130
    file = campaign.results.file
    [undisturbed] = campaign.results.undisturbed.values()
    sha256 = undisturbed.legs[-1].ending.sha256
    file.write_text(file.read_text().replace(sha256, "0" * 64))
    assert campaign.run() == 1
    [kept] = campaign.events("kept")
    assert (Path(kept["folders"][0]) / "runs-disturbed" / "summary.json").exists()
    [problem] = campaign.results.outcomes[campaign.plan].problems
    assert problem.startswith("sha256 differs")
    assert "FAILED" in (campaign.folder / "campaign.md").read_text()
    # It stays so, until its line is removed.
    assert campaign.run() == 1
    assert not campaign.events("training")
