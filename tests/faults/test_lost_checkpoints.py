"""A run never starts at step 0 by itself when it had a checkpoint; and no other file is needed."""

import json
import shutil

import pytest

from tests.faults.harness import finish, signal_at


def lose_folder(run):
    shutil.rmtree(run.dir / "checkpoints")


def lose_markers(run):
    for marker in run.dir.glob("checkpoints/*/COMMIT"):
        marker.unlink()


@pytest.mark.parametrize("lose", [lose_folder, lose_markers])
def test_f19_a_complete_run_whose_checkpoints_are_gone(halfway, undisturbed, lose):
    lose(halfway)
    before = (halfway.dir / "summary.json").read_bytes()
    life = halfway.train(train__epochs=2)
    assert life.code == 5, life.text()
    assert "had checkpoints" in life.text()
    assert "checkpoint.start_over=true" in life.text()
    assert (halfway.dir / "summary.json").read_bytes() == before
    life = halfway.train(train__epochs=2, checkpoint__start_over=True)
    assert life.code == 0, life.text()
    assert halfway.sha256() == undisturbed.sha256()


def test_f19_a_killed_run_whose_checkpoints_are_gone(run):
    assert run.train(callbacks=[signal_at(7)], checkpoint__background=False).code == -9
    assert run.committed() == [4]
    lose_markers(run)
    assert "had checkpoints" in run.train().text()
    assert run.lives[-1].code == 5
    life = run.train(train__seed=5, checkpoint__start_over=True)
    assert life.code == 5, life.text()
    assert "train.seed" in life.text()


def test_a_complete_run_needs_its_checkpoints_no_more(halfway):
    lose_folder(halfway)
    life = halfway.train(train__epochs=1)
    assert life.code == 0, life.text()
    assert life.events("complete")


def test_a_file_in_place_of_the_checkpoints_is_refused_at_the_start(run):
    run.dir.mkdir()
    (run.dir / "checkpoints").write_text("")
    life = run.train()
    assert life.code == 2, life.text()
    assert "a file is where a folder should be" in life.text()
    assert not life.events("strategy")


def test_a_damaged_summary_is_made_again(halfway):
    whole = halfway.summary()
    (halfway.dir / "summary.json").write_text('{"complete": tr')
    life = halfway.train(train__epochs=1)
    assert life.code == 0, life.text()
    (warning,) = [e["event"] for e in life.events() if e.get("level") == "warning"]
    assert "summary.json" in warning
    assert "not JSON" in warning
    assert life.events("restore")[0]["step"] == 9
    assert not life.events("epoch")
    assert halfway.summary()["history"] == whole["history"]


def test_one_changed_digit_of_a_marker_is_passed_over(halfway, undisturbed):
    marker = halfway.dir / "checkpoints/step-00000009-f1/COMMIT"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"format": 3}))
    life = halfway.train()
    assert life.code == 0, life.text()
    (skipped,) = life.events("checkpoint skipped")
    assert "step-00000009-f1" in skipped["reason"]
    assert life.events("restore")[0]["step"] == 8
    assert halfway.sha256() == undisturbed.sha256()


def test_only_the_end_of_an_epoch_has_metrics_to_be_best_by(half):
    found = {f.step: set(half.checkpoints.metrics(f.name)) for f in half.checkpoints.all()}
    assert found == {
        4: set(), 8: set(), 9: {"accuracy", "loss", "val_accuracy", "val_loss"},
    }  # fmt: skip


def test_a_run_without_its_lease_goes_on_from_its_newest_checkpoint(halfway, undisturbed):
    # Taken over once, so that the fences in the folders' names are above a new lease's first.
    kill = {"callbacks": [signal_at(5)], "checkpoint__background": False}
    assert halfway.train(**kill).code == -9
    assert halfway.committed()[-1] == 12
    (halfway.dir / "lease.json").unlink()
    assert halfway.train(**kill).code == -9
    assert halfway.committed()[-1] == 16
    finish(halfway, undisturbed)


def test_a_start_that_fails_leaves_a_complete_run_complete(halfway):
    before = (halfway.dir / "summary.json").read_bytes()
    for part in halfway.dir.glob("checkpoints/*/*/*.safetensors"):
        part.write_bytes(b"damaged")
    assert halfway.train(train__epochs=2).code == 5
    assert (halfway.dir / "summary.json").read_bytes() == before
    life = halfway.train(train__epochs=1)
    assert life.code == 0, life.text()
    assert life.events("complete")
