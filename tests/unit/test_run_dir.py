"""Who may go on with a run's folder, and where it may be."""

import errno
import fcntl
import itertools
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.small_storage import FailingStorage, MemoryStorage
from trainer.checkpoint.holder import Holder, this_holder
from trainer.checkpoint.lease import acquire
from trainer.checkpoint.store import CheckpointStore
from trainer.config import RunConfig
from trainer.errors import (
    CheckpointError,
    ConfigError,
    DeviceError,
    LockedError,
    RunHeldError,
    TrainerError,
)
from trainer.recipes.base import Params
from trainer.run.run_dir import RunDir
from trainer.storage import durable, open_storage

CONFIG = RunConfig.model_validate(
    {
        "recipe": "fashion_mnist",
        "data": {"url": "builtin:fashion_mnist", "batch_size": 32},
        "train": {"epochs": 1},
    }
)
CHECKPOINTS = f"{CONFIG.run.dir}/checkpoints"


def run_in(folder: Path) -> RunDir:
    """As a new process finds it."""
    return RunDir(str(folder / "run"))


def admit(folder: Path) -> RunDir:
    run = run_in(folder)
    run.check_goes_on(start_over=False)
    run.admit(CONFIG, Params, "data")
    return run


def lose_checkpoints(run: RunDir) -> None:
    for found in run.checkpoints.all():
        run.checkpoints.delete(found.step, found.fence)


def test_a_slash_at_the_end_changes_nothing() -> None:
    opened: list[str] = []

    def open(url: str) -> MemoryStorage:
        opened.append(url)
        return MemoryStorage(url=url)

    run = RunDir("gs://bucket/demo/", open)
    assert (run.checkpoints.all(), list(run.model.list())) == ([], [])
    assert {"gs://bucket/demo/checkpoints", "gs://bucket/demo/model"} <= set(opened)


def test_a_run_keeps_its_id(tmp_path: Path) -> None:
    assert run_in(tmp_path).id == ""
    known = admit(tmp_path).id
    assert re.fullmatch("[0-9a-f]{16}", known)
    assert admit(tmp_path).id == run_in(tmp_path).id == known
    assert admit(tmp_path / "other").id != known


def test_a_run_that_begins_anew_with_another_configuration_is_another_one(tmp_path: Path) -> None:
    run = admit(tmp_path)
    known = run.id
    train = CONFIG.train.model_copy(update={"validate_every": 2})
    changed = CONFIG.model_copy(update={"train": train})
    run.admit(changed, Params, "data")
    mended = run.id
    assert mended != known
    run.checkpoints.save(1, {}, state={}, metrics={})
    run.admit(CONFIG, Params, "data", ["train.validate_every"])
    assert run.id == mended


def test_a_checkpoint_is_remembered(tmp_path: Path) -> None:
    run = admit(tmp_path)
    run.checkpoints.save(1, {}, state={}, metrics={})
    lose_checkpoints(run)
    with pytest.raises(CheckpointError, match="had checkpoints"):
        admit(tmp_path)
    run_in(tmp_path).check_goes_on(start_over=True)


def test_a_checkpoint_is_remembered_by_the_next_start_after_a_kill(tmp_path: Path) -> None:
    """Killed between the marker and the record of it."""
    run = admit(tmp_path)
    CheckpointStore(open_storage(f"{run.url}/checkpoints")).save(1, {}, state={}, metrics={})
    assert "has_checkpoint" not in (tmp_path / "run/run.json").read_text()
    lose_checkpoints(admit(tmp_path))
    with pytest.raises(CheckpointError, match="had checkpoints"):
        admit(tmp_path)


def test_a_first_save_that_did_not_end_is_no_checkpoint(tmp_path: Path) -> None:
    run = admit(tmp_path)
    run.storage.write("checkpoints/step-00000001-f0/w0/part-00000.safetensors", b"half")
    restored = admit(tmp_path).restore()
    assert restored.checkpoint is None
    assert restored.reasons == ("checkpoint step-00000001-f0 has no COMMIT marker",)


def test_a_start_that_fails_anywhere_leaves_no_change_unrecorded() -> None:
    train = CONFIG.train.model_copy(update={"validate_every": 2})
    changed = CONFIG.model_copy(update={"train": train})
    for fail_at in itertools.count():
        stores = {url: MemoryStorage(url=url) for url in (CONFIG.run.dir, CHECKPOINTS)}
        run = RunDir(CONFIG.run.dir, stores.__getitem__)
        run.admit(CONFIG, Params, "data")
        run.checkpoints.save(1, {}, state={}, metrics={})
        failing = stores | {run.url: FailingStorage(stores[run.url], fail_at)}
        try:
            RunDir(run.url, failing.__getitem__).admit(
                changed, Params, "data", ["train.validate_every"]
            )
        except TrainerError:
            recorded = json.loads(stores[run.url].read("run.json"))["changes"]
            assert recorded or run.config() == CONFIG
        else:
            break
    assert fail_at > 2
    assert run.config() == changed


def test_a_process_that_lost_the_run_before_its_first_commit_leaves_no_word_of_it(
    tmp_path: Path,
) -> None:
    run, holder = admit(tmp_path), Holder(job="job", process=this_holder().process)
    first = replace(run, lease=acquire(run.storage, holder))
    second = replace(run, lease=acquire(run.storage, holder))
    second.restore()
    with pytest.raises(RunHeldError, match="was taken over"):
        first.checkpoints.save(4, {}, state={}, metrics={})
    # The third finds nothing that counts, and begins.
    third = replace(run, lease=acquire(run.storage, holder))
    third.check_goes_on(start_over=False)
    assert third.restore().checkpoint is None


def test_a_process_that_lost_the_run_does_not_call_it_complete(tmp_path: Path) -> None:
    run, holder = admit(tmp_path), Holder(job="job", process=this_holder().process)
    first = replace(run, lease=acquire(run.storage, holder))
    second = replace(run, lease=acquire(run.storage, holder))
    summary = {"complete": True, "epochs": 1, "steps": 4}
    with pytest.raises(RunHeldError, match="was taken over"):
        first.write_summary(summary)
    assert run.summary() is None
    second.write_summary(summary)
    assert run.summary() == summary


@pytest.mark.parametrize(
    "name", ["L" * 256, "/".join(["D" * 200] * 30), "/".join(["D" * 200] * 20)[:3960]]
)
def test_a_name_that_is_too_long_is_refused_at_the_start(name: str, tmp_path: Path) -> None:
    run = RunDir(f"{tmp_path}/{name}")
    assert run.check(CONFIG, Params, "data") == {}
    with pytest.raises(ConfigError, match=r"cannot be written: .*: set run.dir to .* shorter path"):
        run.check_goes_on(start_over=False)
    assert list(tmp_path.iterdir()) == []


def test_the_longest_name_that_is_taken_can_be_written(tmp_path: Path) -> None:
    longest = None
    for length in range(3950, 4050):
        name = "/".join(["D" * 200] * 20)[: length - len(str(tmp_path))]
        try:
            RunDir(f"{tmp_path}/{name}").check_goes_on(start_over=False)
            longest = name
        except ConfigError:
            break
    run = RunDir(f"{tmp_path}/{longest}")
    run.checkpoints.save(1, {}, state={}, metrics={})
    assert run.checkpoints.manifest("step-00000001-f0").step == 1


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_a_disk_that_failed_may_answer_again(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_fd: int) -> None:
        raise OSError(code, os.strerror(code))

    run = run_in(tmp_path)
    run.check_goes_on(start_over=False)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fails)
        with pytest.raises(DeviceError) as failed:
            run.admit(CONFIG, Params, "data")
    assert failed.value.exit_code == 1  # so that it is tried again
    run.admit(CONFIG, Params, "data")


def test_a_folder_that_a_frozen_process_has_locked_may_be_free_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease cannot be taken over meanwhile; a later start may do so, and no other folder."""
    with run_in(tmp_path).held(1, print):
        pass
    monkeypatch.setattr(durable, "_LOCK_SECONDS", 0.1)
    folder = os.open(tmp_path / "run", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with (
        pytest.raises(LockedError, match=r"/run is locked by another process, .* in 0.1 s") as said,
        run_in(tmp_path).held(1, print),
    ):
        pass
    assert said.value.exit_code == 1
    os.close(folder)
    with run_in(tmp_path).held(1, print) as run:
        assert run.lease is not None
