"""Groups of other kinds than the one that most tests disturb; see `test_variants` of one worker."""

import numpy as np
import pytest

from tests.faults.groups import Agents, at_the_gate, finish, gate, open_gate, wait_until
from tests.faults.harness import Run
from tests.faults.test_metrics_faults import scrape
from tests.faults.test_mixed_precision import SETTINGS as OVERFLOWS
from tests.faults.test_mixed_precision import state

PRECISE = {"train.precision": "mixed_bfloat16"}
OWN_LOOP = {
    "recipe": "fashion_mnist", "params.loop": "own", "params.filters": 4, "params.convolutions": 1
}  # fmt: skip
BATCHES = {
    "recipe": "fashion_mnist", "params.batches": "mirrored", "params.filters": 4
}  # fmt: skip
AVERAGED = {"recipe": "tests.faults.averaged_recipe:overwriting"}
NOTED = {"name": "tests.faults.inject:NoteBits", "args": {"every": 9}, "stateless": True}


@pytest.fixture
def runs(zygote, tmp_path):
    """One to disturb, and one to compare it with."""
    runs = [Run(zygote, tmp_path / name) for name in ("run", "calm")]
    for run in runs:
        run.folder.mkdir()
    return runs


def start_calm(run, settings, **more):
    """Agents whose workers note their bits at steps 9 and 18, where they wait at a gate."""
    run.settings = settings
    agents = Agents(run, settings={"callbacks": [NOTED, gate(run, 18)]} | more)
    agents.start()
    at_the_gate(agents)
    bits = [line.split()[1:] for line in run.fired() if line.startswith("bits")]
    assert sorted((at, worker) for at, worker, _ in bits) == [
        (at, worker) for at in ("18", "9") for worker in ("0", "1")
    ]
    assert len({(at, sha) for at, _, sha in bits}) == 2, "workers differ"
    return agents


def finish_calm(agents):
    open_gate(agents.run)
    assert agents.codes() == [0, 0], agents.text()


def kill_and_finish(run, calm):
    run.settings = calm.settings
    disturbed = Agents(run, settings={"callbacks": [gate(run)]})
    disturbed.start()
    at_the_gate(disturbed)
    disturbed.kill_worker(1)
    finish(disturbed, calm)
    assert [life.events("restore")[-1]["step"] for life in disturbed.lives.values()] == [4, 4]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(PRECISE | AVERAGED, id="bfloat16 and averages", marks=pytest.mark.long),
        pytest.param(OWN_LOOP, id="a loop of its own", marks=pytest.mark.long),
        pytest.param(BATCHES, id="batches of a PyDataset", marks=pytest.mark.long),
        pytest.param(PRECISE, id="bfloat16", marks=pytest.mark.long),
        pytest.param(AVERAGED, id="averages", marks=pytest.mark.long),
    ],
)
def test_workers_hold_the_same_bits_also_after_a_kill(runs, settings):
    run, calm = runs
    finish_calm(start_calm(calm, settings))
    kill_and_finish(run, calm)


@pytest.mark.long
def test_f42_all_workers_skip_what_overflows_count_it_and_go_on_after_a_kill(runs):
    run, calm = runs
    served = {"metrics.enabled": True, "metrics.port": 0}
    agents = start_calm(calm, OVERFLOWS, **served)
    pages = [page_of_step(life, 18) for life in agents.lives.values()]
    finish_calm(agents)
    after = state(calm)
    assert all(np.all(np.isfinite(array)) for array in after.values())
    skipped = 18 - after["iteration"]
    assert 2 <= skipped < 18, "no overflow, or nothing else"
    assert [page["trainer_skipped_steps_total"] for page in pages] == [skipped, skipped]
    assert after["dynamic_scale"] < OVERFLOWS["params.scale"]
    kill_and_finish(run, calm)


def page_of_step(life, step):
    """The metrics that an agent shows when its worker, at a gate, has told it of so many steps."""
    wait_until(lambda: scrape(life).get("trainer_steps_total") == step, f"step {step} on the page")
    return scrape(life)
