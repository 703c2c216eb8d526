"""`trainer chaos`: processes of a run are killed, stopped and frozen at random moments."""

import pytest

# A few hundred steps, so that faults come between them.
LONGER = {
    "data__train": "train[:1920]",
    "data__validation": None,
    "train__epochs": 12,
    "checkpoint__every_steps": 25,
}


def chaos(run, *, workers, kills, stops, freezes, seed, seconds, **settings):
    """The life of the command, and its result, which is on the last line."""
    amounts = {"workers": workers, "kills": kills, "stops": stops, "freezes": freezes}
    options = [f"--{name}={value}" for name, value in {**amounts, "seed": seed}.items()]
    life = run.start(*options, "--json", command="chaos", **LONGER | settings)
    life.wait(seconds)
    return life, life.events()[-1]


@pytest.mark.timeout(240)
def test_a_disturbed_group_ends_as_an_undisturbed_one(run):
    life, result = chaos(run, workers=2, kills=3, stops=1, freezes=1, seed=1, seconds=200)
    assert life.code == 0, life.text()
    assert len(life.events("fault")) == result["faults"] == 5
    assert result["equal"]
    assert result["sha256"] == result["undisturbed_sha256"]
    assert result["recovery"]["kill leader"]["count"] == 1
    # Nothing is left but what the test itself wrote.
    assert {path.suffix for path in run.folder.iterdir()} <= {".yaml", ".txt", ".log"}
