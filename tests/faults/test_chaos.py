"""`trainer chaos`: processes of a run are killed, stopped and frozen at random moments."""

import signal

import pytest

# 60 steps an epoch, so that faults come between them.
LONGER = {"data__train": "train[:1920]", "data__validation": None, "checkpoint__every_steps": 25}


def chaos(run, *, seconds, epochs, settings=(), **options):
    """The life of the command, and its result, which is on the last line."""
    args = [f"--{name}={value}" for name, value in options.items()]
    keys = {"train__epochs": epochs, **LONGER, **dict(settings)}
    life = run.start(*args, "--json", command="chaos", **keys)
    life.wait(seconds)
    return life, life.events()[-1]


def check_causes(result):
    """That all seconds have one, the campaign checks itself."""
    assert result["goodput"]["down"] > 0


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_disturbed_group_ends_as_an_undisturbed_one(run):
    life, result = chaos(
        run, workers=2, kills=3, stops=1, freezes=0, seed=1, epochs=10, seconds=200
    )
    assert life.code == 0, life.text()
    assert len(life.events("fault")) == result["faults"] == 4
    assert result["equal"]
    assert result["sha256"] == result["undisturbed_sha256"]
    assert result["recovery"]["kill leader"]["count"] == 1
    check_causes(result)
    # Nothing is left but what the test itself wrote.
    assert {path.suffix for path in run.folder.iterdir()} <= {".yaml", ".txt", ".log"}


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_disturbed_worker_alone_ends_as_an_undisturbed_one(run):
    amounts = {"kills": 2, "stops": 0, "freezes": 1}
    life, result = chaos(run, workers=1, seed=1, epochs=8, seconds=200, **amounts)
    assert life.code == 0, life.text()
    assert result["equal"]
    assert {"kill leader", "kill worker"} < set(result["recovery"])
    check_causes(result)


THREE = {"data__batch_size": 96, "data__streams": 12, "data__train": "train[:5000]"}


@pytest.mark.long
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("workers", "seed", "settings"),
    [(1, 1, {}), (2, 2, {}), (2, 3, {}), (3, 4, THREE), (3, 5, THREE)],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_f43_campaigns_of_more_than_100_kills(run, workers, seed, settings, record_property):
    amounts = {"kills": 26, "stops": 4, "freezes": 4}
    life, result = chaos(
        run, workers=workers, seed=seed, epochs=64, seconds=2300, settings=settings, **amounts
    )
    assert life.code == 0, life.text()
    assert result["equal"]
    check_causes(result)
    assert result["goodput"]["restore"] > 0  # one or two may round to nothing
    assert result["faults"] == len(life.events("fault")) == sum(amounts.values())
    killed = [event["what"] for event in life.events("fault") if "SIGKILL" in event["what"]]
    assert len(killed) == amounts["kills"]
    # A worker alone has one agent, which is the leader.
    hit = {"worker", "leader"} | ({"agent"} if workers > 1 else set())
    assert {what.split()[2] for what in killed} == hit
    for name in ("faults", "redone_steps", "generations", "productive", "recovery"):
        record_property(name, result[name])


def test_a_configuration_that_fails_ends_with_its_code(run):
    life = run.start("--workers=2", command="chaos", params__units="many")
    assert life.wait() == 2
    assert "the run ended with code 2" in life.text()
    assert "params.units" in life.text()


def test_ctrl_c_tells_what_is_left(run):
    life = run.start("--workers=1", command="chaos", train__epochs=1000)
    life.wait_for("undisturbed run")
    life.signal(signal.SIGINT)
    assert life.wait() == 130
    assert "interrupted; left as they are: " in life.text()
    assert f"{run.folder / 'run-undisturbed'}, " in life.text()


def test_a_folder_in_use_is_left_alone(run):
    used = run.folder / "run-undisturbed" / "summary.json"
    used.parent.mkdir()
    used.write_text("{}")
    life = run.start("--workers=2", command="chaos")
    assert life.wait() == 2
    assert "run-undisturbed is there already, maybe of a try that was interrupted" in life.text()
    assert used.read_text() == "{}"
