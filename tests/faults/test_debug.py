"""`trainer debug` comes to the step that failed, and changes nothing of the run."""

import uuid

import pytest

from tests.faults.harness import Life, Run
from tests.faults.test_trained_model import OF_A_POD, files
from trainer.checkpoint.store import CheckpointStore
from trainer.storage import open_storage

NOTED = {"name": "tests.faults.inject:NoteLosses", "stateless": True}
FAILING = {
    "recipe": "tests.faults.failing_recipe:recipe",
    "checkpoint.background": False,
    "train.steps_per_call": 1,
    "callbacks": [
        NOTED,
        {"name": "csv_logger", "args": {"filename": "log.csv"}},
        {"name": "tensorboard", "args": {"log_dir": "board"}},
        {"name": "loss_history"},
    ],
}


@pytest.fixture(scope="module")
def failed(zygote, tmp_path_factory):
    """A run that ended in step 15, of no number; its newest checkpoint is that of step 12."""
    return ended(Run(zygote, tmp_path_factory.mktemp("failed"), FAILING), 4)


@pytest.fixture(scope="module")
def raised(zygote, tmp_path_factory):
    """The same with an error in that step."""
    settings = FAILING | {"params.raises": True}
    return ended(Run(zygote, tmp_path_factory.mktemp("raised"), settings), 2)


def ended(run, code):
    life = run.train()
    assert life.code == code, life.text()
    assert run.committed() == [8, 9, 12]
    return run


def debug(run, *args, environ=()):
    """One `trainer debug` of the run, in the folder in which it was trained."""
    number = len(list(run.folder.parent.glob("debug-*")))
    output, log = (run.folder.parent / f"debug-{number}.{kind}" for kind in ("txt", "log"))
    output.touch()
    request = {
        "argv": ["debug", run.url, "--json", *map(str, args)], "output": str(output),
        "env": {"FAULT_LOG": str(log), "FAULT_STORAGE": "null", **run.environ, **dict(environ)},
        "cwd": str(run.folder),
    }  # fmt: skip
    life = Life(run.zygote, run.zygote.ask(request)["pid"], output)
    life.wait()
    return life, log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize("which", [pytest.param("failed", marks=pytest.mark.long), "raised"])
def test_it_fails_at_the_same_step_of_the_same_losses_and_changes_nothing(which, request):
    failed = request.getfixturevalue(which)
    before = files(failed.folder)
    life, noted = debug(failed)
    assert life.code == failed.lives[0].code, life.text()
    (said,), (wanted,) = life.events("error"), failed.lives[0].events("error")
    assert said["message"] == wanted["message"]
    assert life.events("restore")[0]["step"] == 12
    # Steps 13, 14 and, where its hook is called, 15: of their records, dropout and Adam.
    assert noted == failed.fired()[12:]
    assert len(noted) >= 2
    assert files(failed.folder) == before
    assert "Traceback" in life.text()


def test_an_earlier_step_a_number_of_steps_and_a_change(failed):
    before = files(failed.folder)
    change = ("--set", "params.is_mended=true")
    life, _ = debug(failed, *change)
    assert life.code == 5
    assert "--allow-change params.is_mended" in life.events("error")[0]["message"]
    change += ("--allow-change", "params.is_mended", "--set", "data.cache=stream")
    life, noted = debug(failed, "--step", 9, "--steps", 7, *change, environ=OF_A_POD)
    assert life.code == 0, life.text()
    assert life.events("end")[0]["reason"].startswith("step 16 was the last one")
    # Step 15 and 16 come now; those before are as they were.
    assert (noted[:5], len(noted)) == (failed.fired()[9:14], 7)
    assert files(failed.folder) == before


def test_steps_run_line_by_line(failed):
    life, noted = debug(failed, "--eager", "--set", "callbacks=[]", "--allow-change", "callbacks")
    assert life.code == failed.lives[0].code, life.text()
    assert noted == [f"line by line {step}" for step in (13, 14, 15)]
    assert "step 15" in life.events("error")[0]["message"]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--step", "13"], 2, "has no checkpoint of step 13: 8, 9, 12"),
        (["--set", "train.seed=1"], 5, "train.seed: 0 -> 1"),
        (["--set", "train.sed=1"], 2, "did you mean 'train.seed'?"),
        (["--keep", "run"], 2, "--keep run is no new folder"),
    ],
)
def test_what_is_refused(failed, args, code, said):
    life, _ = debug(failed, *args)
    assert life.code == code, life.text()
    assert said in life.events("error")[0]["message"]
    assert not life.events("starting TensorFlow")


def test_no_run_is_said(failed, tmp_path):
    life, _ = debug(Run(failed.zygote, tmp_path))
    assert life.code == 2
    assert "no run in" in life.text()
    assert "Traceback" not in life.text()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_failed_before_its_first_checkpoint_begins_again(run):
    run.settings |= FAILING | {"params.fails_at": 2}
    assert run.train().code == 4
    assert run.committed() == []
    before = files(run.folder)
    life, noted = debug(run)
    assert (life.code, noted) == (4, run.fired()), life.text()
    assert files(run.folder) == before


def test_what_it_saves_is_what_the_run_saved(undisturbed, tmp_path):
    before = files(undisturbed.folder)
    args = ("--step", 12, "--steps", 5, "--set", "train.profile.first=14")
    life, _ = debug(undisturbed, *args, "--keep", tmp_path / "kept")
    assert life.code == 0, life.text()
    assert life.events("trace")[0]["url"].startswith(f"{tmp_path}/kept/plugins/")
    found, wanted = saved(tmp_path / "kept", 16), saved(undisturbed.dir, 16)
    assert found.manifest.sha256 == wanted.manifest.sha256
    assert files(undisturbed.folder) == before


def test_of_a_complete_run_the_report_is_made_again(undisturbed, tmp_path):
    before = files(undisturbed.folder)
    life, _ = debug(undisturbed, "--set", "export.formats=[keras]", "--keep", tmp_path / "kept")
    assert life.code == 0, life.text()
    assert life.events("end")[0]["reason"] == "the run would be complete at step 18"
    assert (tmp_path / "kept" / "model" / "model.keras").exists()
    assert files(undisturbed.folder) == before


@pytest.mark.long
def test_a_run_of_two_workers_is_debugged_by_one(calm):
    before = files(calm.folder)
    life, _ = debug(calm, "--step", 12, "--steps", 2)
    assert life.code == 0, life.text()
    assert life.events("the run had several workers")[0]["workers"] == 2
    assert life.events("end")[0]["reason"].startswith("step 14 was the last one")
    assert files(calm.folder) == before


def saved(folder, step):
    """A step's checkpoint of a run's folder."""
    store = CheckpointStore(open_storage(f"{folder}/checkpoints"))
    (found,) = [found for found in store.all() if found.step == step]
    return store.read(found.name)


@pytest.mark.needs_gcs
def test_a_run_in_a_bucket_is_read_alone(zygote, gcs, proxy, tmp_path):
    url = f"gs://bucket/{uuid.uuid4().hex}/run"
    run = Run(zygote, tmp_path, FAILING | {"run.dir": url}, gcs.environment())
    life = run.train()
    assert life.code == 4, life.text()
    before = {path: (gcs.root / "bucket" / path).read_bytes() for path in objects(gcs)}
    run.environ = gcs.environment(proxy.port)
    life, noted = debug(run)
    assert life.code == 4, life.text()
    assert (life.events("restore")[0]["step"], noted) == (12, run.fired()[12:])
    assert {request.split()[0] for request in proxy.requests} == {"GET"}
    assert {path: (gcs.root / "bucket" / path).read_bytes() for path in objects(gcs)} == before


def objects(gcs):
    folder = gcs.root / "bucket"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
