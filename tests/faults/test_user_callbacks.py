"""What callbacks of a user's do to a run: they exit, add to files, report what is no number."""

import pytest

from tests.faults.harness import SMALL, Run, signal_at


@pytest.mark.parametrize(
    "kind",
    [
        "SystemExit",
        *(pytest.param(n, marks=pytest.mark.long) for n in ("KeyboardInterrupt", "GeneratorExit")),
    ],
)
def test_an_exit_in_a_callback_is_an_error(run, kind):
    args = {"at": 1, "kind": kind, "hook": "on_epoch_end"}
    life = run.train(
        callbacks=[{"name": "tests.faults.inject:ExitAt", "args": args, "stateless": True}]
    )
    assert run.fired()
    assert life.code == 1, life.text()
    (error,) = life.events("error")
    assert error["message"].startswith(f"callback ExitAt._count raised {kind}")
    assert "Traceback" not in life.text()


def test_an_exit_in_a_recipe_is_an_error(run):
    life = run.train(recipe="tests.faults.held_recipe:leaving")
    assert life.code == 2, life.text()
    assert "building its model raised SystemExit" in life.events("error")[0]["message"]


def test_a_metric_that_is_no_number_is_null_in_json(run):
    life = run.train(recipe="tests.faults.held_recipe:nan_metric", log__every_seconds=0.001)
    assert life.code == 0, life.text()
    assert life.events("progress")[0]["undefined"] is None
    assert life.events("epoch")[0]["undefined"] is None
    for text in (life.text(), (run.dir / "summary.json").read_text()):
        assert "NaN" not in text
    assert run.summary()["history"]["undefined"] == [None, None]


def test_rows_after_the_start_are_written_once_beside_older_ones(zygote, tmp_path):
    """Killed before the first checkpoint of its own cadence, with the user's `append`."""
    file = tmp_path / "log.csv"
    file.write_text("of another run\n")
    csv = {"name": "csv_logger", "args": {"filename": str(file), "append": True}}
    run = Run(zygote, tmp_path, SMALL | {"checkpoint.every_steps": None, "callbacks": [csv]})
    every = {"checkpoint__every_epochs": 2}
    assert run.train(callbacks=[csv, signal_at(12)], **every).code == -9
    assert run.committed() == [0]
    life = run.train(**every)
    assert life.code == 0, life.text()
    rows = file.read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["of another run", "0", "1"]
