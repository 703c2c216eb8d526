"""A group goes on with other numbers of workers, to the result of the same numbers undisturbed."""

from itertools import pairwise

import pytest

from tests.emulator import free_port
from tests.faults.groups import Agents, at_the_gate, gate, open_gate, wait_until
from tests.faults.harness import Run, signal_at
from trainer.cluster import tf_config

TWELVE = {"data.batch_size": 24, "data.streams": 12}


@pytest.mark.long
@pytest.mark.parametrize(
    ("workers", "settings"),
    [(2, {}), (3, TWELVE)],
    ids=["two", "three"],
)
def test_f49_the_others_go_on_and_take_the_last_one_in_when_it_comes_back(run, workers, settings):
    fewer = workers - 1
    run.settings |= settings | {"train.epochs": 4}
    agents = Agents(run, workers, {
        "callbacks": [gate(run), gate(run, 12, "late")], "cluster.min_workers": fewer,
        "cluster.wait_seconds": 2,
    })  # fmt: skip
    agents.start()
    at_the_gate(agents)
    agents.kill(fewer)
    open_gate(run)
    # They go on from step 4 without it, up to the next gate.
    wait_until(lambda: len(run.fired()) == workers + 2 * fewer, "the others without it")
    agents.start(fewer)
    agents.lives[0].wait_for("workers outside")
    open_gate(run, "late")
    assert agents.codes() == [0] * workers, agents.text()
    sizes = run.summary()["world_sizes"]
    assert [size for _, size in sizes] == [workers, fewer, workers]
    assert [e["workers"] for e in agents.lives[0].events("generation")] == [workers, fewer, workers]
    first, without, together = (step for step, _ in sizes)
    assert (first, without) == (0, 4)
    assert agents.lives[0].events("restore")[-1]["step"] == together
    # The undisturbed run of the same world sizes.
    calm = Run(run.zygote, run.folder / "calm", run.settings)
    calm.folder.mkdir()
    replay(calm, sizes)
    assert run.sha256() == calm.sha256()
    assert run.summary()["history"] == calm.summary()["history"]


def replay(run, sizes):
    """A run that changes its number of workers where another one did, and nothing else."""
    settings = {"train__steps_per_call": 1, "checkpoint__background": False}
    for (start, workers), (end, _) in pairwise([*sizes, (None, None)]):
        # Several agree in the call after the signal.
        last = None if end is None else end - start - (workers > 1)
        callbacks = [] if last is None else [signal_at(last, "SIGTERM")]
        addresses = tuple(f"127.0.0.1:{free_port()}" for _ in range(workers))
        lives = [
            run.start(environ={"TF_CONFIG": tf_config(addresses, worker)}, callbacks=callbacks,
                      **settings)
            for worker in range(workers)
        ]  # fmt: skip
        codes = [life.wait() for life in lives]
        assert codes == [0 if end is None else 75] * workers, lives[0].text()
        assert end in (None, run.committed()[-1])
