"""What several workers compute: the same bits on all of them, the same numbers as one."""

import math

import numpy as np
import pytest

from tests.emulator import free_port
from tests.faults.harness import Run
from trainer.cluster import tf_config

# 96 is a multiple of 12 streams and of two micro-batches for up to four workers.
NUMBERS = {
    "recipe": "tests.faults.recipe:normalized",
    "data.train": "train[:1056]",
    "data.validation": None,
    "data.test": None,
    "data.batch_size": 96,
    "data.streams": 12,
    "data.block_records": 8,
    "train.accumulate_steps": 2,
    "train.steps_per_call": 1,
    "checkpoint.every_steps": 5,
}


def train(run, workers, **settings):
    run.folder.mkdir()
    addresses = tuple(f"127.0.0.1:{free_port()}" for _ in range(workers))
    lives = [
        run.start(environ={"TF_CONFIG": tf_config(addresses, worker)}, **settings)
        for worker in range(workers)
    ]
    assert [life.wait(180) for life in lives] == [0] * workers, lives[0].text()
    arrays = run.last().arrays
    return {name: arrays[name] for name in arrays if name.startswith(("model/", "optimizer/"))}


AVERAGED = {"recipe": "tests.faults.averaged_recipe:normalized_overwriting"}
# Each worker rounds its part of a sum to three digits, which on some processors (AMD EPYC) moves a
# kernel by 4.5e-4. That batches are not normalized by parts, which would be 3e-4, show the others.
COARSE = {"train.precision": "mixed_bfloat16"}


@pytest.mark.parametrize(
    ("steps", "settings", "tolerance", "others"),
    [
        (10, {}, 1e-6, [2]),
        pytest.param(10, COARSE | AVERAGED, 1e-3, [2], marks=pytest.mark.long),
        pytest.param(10, COARSE, 1e-3, [2], marks=pytest.mark.long),
        pytest.param(10, AVERAGED, 1e-6, [2], marks=pytest.mark.long),
        pytest.param(10, {}, 1e-6, [3, 4], marks=pytest.mark.long),
        pytest.param(200, {}, 1e-4, [2, 4], marks=pytest.mark.long),
    ],
    ids=["10-2", "10-2-both", "10-2-bfloat16", "10-2-averages", "10-3-4", "200-2-4"],
)
def test_workers_agree_with_one(zygote, tmp_path, steps, settings, tolerance, others):
    short = {
        "train__epochs": math.ceil(steps / 11), "callbacks": [stop_at(steps)],
        "params__learning_rate": 0.01,
    }  # fmt: skip
    one = train(Run(zygote, tmp_path / "1", NUMBERS | settings), 1, **short)
    for workers in others:
        run = Run(zygote, tmp_path / str(workers), NUMBERS | settings)
        other = train(run, workers, **short)
        assert one.keys() == other.keys()
        distances = {
            name: float(np.max(np.abs(one[name].astype(np.float64) - other[name]), initial=0))
            for name in one
        }

        assert max(distances.values()) < tolerance, distances


def stop_at(steps):
    return {"name": "tests.faults.inject:StopAt", "args": {"at": steps}, "stateless": True}


@pytest.mark.long
@pytest.mark.parametrize("workers", [2, 3], ids=["two", "three"])
def test_workers_hold_the_same_bits(zygote, tmp_path, workers):
    """On Fashion-MNIST, with dropout, after every tenth step, at each of which all save."""
    settings = {
        "data.train": "train[:1920]", "data.validation": None, "data.test": None,
        "data.batch_size": 96, "data.streams": 12, "train.epochs": 2,
        "checkpoint.every_steps": 10, "metrics.enabled": False, "export.formats": [],
    }  # fmt: skip
    run = Run(zygote, tmp_path / "run", settings, packaged="fashion_mnist")
    bits = {"name": "tests.faults.inject:NoteBits", "args": {"every": 10}, "stateless": True}
    train(run, workers, callbacks=[bits])
    noted = sorted(line.split()[1:] for line in run.fired())
    assert len(noted) == 4 * workers
    for step in ("10", "20", "30", "40"):
        assert len({sha for at, _, sha in noted if at == step}) == 1
        assert {worker for at, worker, _ in noted if at == step} == set(map(str, range(workers)))
