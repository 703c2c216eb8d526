"""What TensorBoard shows of a run that was killed and went on, from the run's folder."""

import json
import uuid
from collections import Counter
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.graph.keras_util import keras_model_to_graph_def
from tensorboard.util.tensor_util import make_ndarray

from tests.faults.harness import Run, disturbed_and_calm, finish, signal_at
from trainer.run.run_dir import BOARD
from trainer.storage import open_storage

CALLBACK = {"name": "tensorboard", "args": {"update_freq": 1, "histogram_freq": 1}}
SETTINGS = {"callbacks": [CALLBACK], "checkpoint.background": False}


def board(run: Run, folder: Path) -> Path:
    """The events of a run, as they lie in its folder."""
    storage = open_storage(f"{run.url}/{BOARD}")
    for entry in storage.list():
        file = folder / entry.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(storage.read(entry.path))
    return folder


def events(folder: Path, plugin: str) -> list[tuple[str, str, int, bytes]]:
    """(writer, tag, step, value) of a plugin's events, as TensorBoard reads them."""
    found = []
    for writer in ("train", "validation"):
        read = EventAccumulator(str(folder / writer), {"tensors": 0}).Reload()
        for tag in read.PluginTagToContent(plugin) if plugin in plugins(read) else ():
            if "steps_per_second" not in tag:
                for event in read.Tensors(tag):
                    value = make_ndarray(event.tensor_proto)
                    found.append((writer, tag, event.step, value.item() if value.ndim == 0
                                  else value.tobytes()))  # fmt: skip
    return found


def plugins(read: EventAccumulator) -> set[str]:
    """Names of plugins that have events."""
    return {
        read.SummaryMetadata(tag).plugin_data.plugin_name for tag in read.Tags()["tensors"]
    }  # fmt: skip


@pytest.fixture(
    params=[
        pytest.param("a folder", marks=pytest.mark.long),
        pytest.param("a bucket", marks=pytest.mark.needs_gcs),
    ]
)
def killed(request, zygote, tmp_path):
    """A run that was killed after a checkpoint, and one that was not."""
    run, calm = disturbed_and_calm(zygote, tmp_path, SETTINGS)
    if request.param == "a bucket":
        gcs = request.getfixturevalue("gcs")
        request.getfixturevalue("proxy")
        run.settings = SETTINGS | {"run.dir": f"gs://bucket/{uuid.uuid4().hex}/run"}
        run.environ = gcs.environment()
    assert run.train(callbacks=[CALLBACK, signal_at(15)]).code == -9
    assert run.committed()[-1] == 12
    finish(run, calm)
    return run, calm


def test_nothing_is_lost_and_what_is_done_again_is_the_same(killed, tmp_path):
    disturbed, calm = (board(run, tmp_path / f"{i}") for i, run in enumerate(killed))
    once, seen = events(calm, "scalars"), Counter(events(disturbed, "scalars"))
    assert {"batch_loss", "epoch_loss", "epoch_accuracy"} <= {tag for _, tag, _, _ in once}
    assert len(once) == len(set(once))
    assert seen.keys() == set(once)
    # What had been written after the checkpoint, before the kill, may be there twice; TensorFlow
    # writes a step when the next one begins.
    twice = {step for (_, tag, step, _), count in seen.items() if tag == "batch_loss" and count > 1}
    assert twice == (set() if killed[0].url.startswith("gs") else {13, 14})
    assert set(events(disturbed, "histograms")) == set(events(calm, "histograms"))
    histograms = {(tag, step) for _, tag, step, _ in events(calm, "histograms")}
    assert len(histograms) == 2 * len({tag for tag, _ in histograms}) > 2
    ((_, tag, _, described), *_) = events(disturbed, "graph_keras_model")
    graph = keras_model_to_graph_def(json.loads(described))
    layers = [node.name.rpartition("/")[2] for node in graph.node]
    assert (tag, layers[0], layers[-1]) == ("keras", "input_layer", "dense_1")
    assert sum(bool(node.input) for node in graph.node) == len(layers) - 1


def test_a_folder_that_cannot_be_made_is_refused_at_the_start(zygote, tmp_path):
    args = {"log_dir": str(tmp_path / "file" / "board")}
    (tmp_path / "file").touch()
    run = Run(zygote, tmp_path, SETTINGS | {"callbacks": [CALLBACK | {"args": args}]})
    life = run.train()
    assert life.code == 2, life.text()
    assert f"callback tensorboard: log_dir '{args['log_dir']}' cannot be made" in life.text()


def test_rare_batches_leave_out_nothing_of_epochs(zygote, tmp_path):
    arguments = CALLBACK["args"] | {"update_freq": 5}  # of nine steps an epoch
    run = Run(zygote, tmp_path, SETTINGS | {"callbacks": [CALLBACK | {"args": arguments}]})
    assert run.train().code == 0, run.lives[0].text()
    folder = board(run, tmp_path / "board")
    scalars = events(folder, "scalars")
    assert {step for _, tag, step, _ in scalars if tag == "batch_loss"} == {5, 10, 15}
    for writer in ("train", "validation"):
        epochs = {step for who, tag, step, _ in scalars if (who, tag) == (writer, "epoch_loss")}
        assert epochs == {0, 1}, writer
    assert {step for _, _, step, _ in events(folder, "histograms")} == {0, 1}
