"""What TensorBoard shows of a run that was killed and went on."""

from collections import Counter

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from tests.faults.harness import Run, disturbed_and_calm, finish, signal_at

BOARD = {"name": "tensorboard", "args": {"log_dir": "board", "update_freq": 1}}


def scalars(run: Run) -> list[tuple[str, str, int, float]]:
    """(writer, tag, step, value) of every scalar, as TensorBoard reads them."""
    found = []
    for writer in ("train", "validation"):
        events = EventAccumulator(str(run.folder / "board" / writer), {"tensors": 0}).Reload()
        for tag in events.Tags()["tensors"]:
            if "steps_per_second" not in tag and tag != "keras":
                for event in events.Tensors(tag):
                    value = float(make_ndarray(event.tensor_proto))
                    found.append((writer, tag, event.step, value))
    return found


def test_no_step_is_lost_and_those_done_again_are_the_same(zygote, tmp_path):
    settings = {"callbacks": [BOARD], "checkpoint.background": False}
    run, calm = disturbed_and_calm(zygote, tmp_path, settings)
    assert run.train(callbacks=[BOARD, signal_at(15)]).code == -9
    assert run.committed()[-1] == 12
    finish(run, calm)
    once, seen = scalars(calm), Counter(scalars(run))
    assert {"batch_loss", "epoch_loss", "epoch_accuracy"} <= {tag for _, tag, _, _ in once}
    assert len(once) == len(set(once))
    assert seen.keys() == set(once)
    # What had been written after the checkpoint, before the kill, is there twice; TensorFlow
    # writes a step when the next one begins.
    twice = {step for (_, tag, step, _), count in seen.items() if tag == "batch_loss" and count > 1}
    assert twice == {13, 14}
