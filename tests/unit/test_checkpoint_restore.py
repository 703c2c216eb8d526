"""Which checkpoint a start goes on from."""

import pytest

from tests.small_storage import MemoryStorage
from tests.unit.test_checkpoint_store import save, store_of
from trainer.checkpoint.restore import choose, newest
from trainer.checkpoint.store import CheckpointStore
from trainer.config import CheckpointConfig
from trainer.errors import CheckpointError, ConfigError

BEST = CheckpointConfig(best={"metric": "loss", "mode": "max"})


def three() -> MemoryStorage:
    """Checkpoints of steps 10, 20 and 30, of the values 1, 3 and 2."""
    storage = MemoryStorage()
    for step, value in [(10, 1.0), (20, 3.0), (30, 2.0)]:
        save(store_of(storage), step, value)
    return storage


def damage(storage: MemoryStorage, *steps: int) -> None:
    for step in steps:
        storage.write(f"step-{step:08d}-f0/w0/part-00000.safetensors", b"?")


def test_a_new_run_starts_at_zero() -> None:
    assert newest(store_of(MemoryStorage())).checkpoint is None


def test_the_newest_is_restored() -> None:
    restored = newest(store_of(three()))
    assert (restored.checkpoint.manifest.step, restored.reasons) == (30, ())


def test_damaged_ones_are_skipped_by_name() -> None:
    storage = three()
    damage(storage, 30, 20)
    restored = newest(store_of(storage))
    assert restored.checkpoint.manifest.step == 10
    assert all(
        f"step-000000{n}-f0" in why for n, why in zip((30, 20), restored.reasons, strict=True)
    )


def test_an_uncommitted_one_is_skipped_by_name() -> None:
    storage = three()
    storage.delete("step-00000030-f0/COMMIT")
    restored = newest(store_of(storage))
    assert restored.checkpoint.manifest.step == 20
    assert restored.reasons == ("checkpoint step-00000030-f0 has no COMMIT marker",)


def test_what_is_older_than_the_restored_one_is_not_told() -> None:
    """Its save was killed, or its removal; the ones that came after do without it."""
    storage = three()
    storage.delete("step-00000020-f0/COMMIT")
    assert newest(store_of(storage)).reasons == ()


def test_a_higher_fence_comes_first() -> None:
    storage = three()
    save(store_of(storage, fence=1), 15)
    assert newest(store_of(storage)).checkpoint.manifest.step == 15


def test_a_run_never_starts_over_in_silence() -> None:
    storage = three()
    damage(storage, 10, 20, 30)
    with pytest.raises(CheckpointError, match=r"all 3 .* damaged:(.|\n)*start_over=true"):
        newest(store_of(storage))
    assert newest(store_of(storage), start_over=True).checkpoint is None


# which, step
@pytest.mark.parametrize(("which", "step"), [("last", 30), ("20", 20), ("10", 10), ("best", 20)])
def test_a_checkpoint_is_chosen_by_name(which: str, step: int) -> None:
    assert choose(store_of(three()), which, BEST, "r").manifest.step == step


@pytest.mark.parametrize(
    ("which", "config", "said"),
    [
        ("15", BEST, "no checkpoint of step 15: 10, 20, 30"),
        ("best", CheckpointConfig(), "keeps no best checkpoint"),
        ("best", CheckpointConfig(best={"metric": "val_loss"}), "has the metric 'val_loss'"),
    ],
)
def test_a_choice_that_is_not_there_is_refused(
    which: str, config: CheckpointConfig, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        choose(store_of(three()), which, config, "r")


def test_a_damaged_choice_is_refused() -> None:
    storage = three()
    damage(storage, 20)
    with pytest.raises(CheckpointError, match="step-00000020-f0"):
        choose(store_of(storage), "20", BEST, "r")


def test_the_last_is_the_last_that_holds() -> None:
    storage = three()
    damage(storage, 30)
    assert choose(store_of(storage), "last", BEST, "r").manifest.step == 20


def test_an_empty_run_has_nothing_to_choose() -> None:
    with pytest.raises(ConfigError, match="no committed checkpoint"):
        choose(store_of(MemoryStorage()), "last", BEST, "r")


def test_what_a_lower_fence_commits_too_late_is_never_restored() -> None:
    # Fence 1 took the run over after step 10 of fence 0, which then woke up and went on.
    storage = three()
    store = CheckpointStore(storage, fence=1, limits={0: 10})
    restored = newest(store)
    assert restored.checkpoint.manifest.step == 10
    assert restored.reasons == tuple(
        f"checkpoint step-000000{step}-f0 was committed after another job took the run over"
        for step in (30, 20)
    )
    assert choose(store, "last", BEST, "run").manifest.step == 10
    assert choose(store, "best", BEST, "run").manifest.step == 10
