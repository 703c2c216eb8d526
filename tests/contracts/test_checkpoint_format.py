"""Checkpoint format 1 as it was first written: it must be read, and written, to the byte."""

import hashlib
import re

import ml_dtypes
import numpy as np

from tests.contracts.goldens import FOLDER
from trainer.checkpoint.store import CheckpointStore
from trainer.storage import open_storage

GOLDEN = FOLDER / "checkpoints"
NAME = "step-00000012-f3"
SHA256 = "b402a4c34552baa1298ee182795c41ca58ce4760a98a97317b3fefafd0eeb853"
ARRAYS = {
    "model/0000/dense/kernel": np.arange(6, dtype=np.float32).reshape(2, 3) / 4,
    "model/0001/dense/bias": np.asarray([1.5, -2], ml_dtypes.bfloat16),
    "optimizer/0000/adam/iteration": np.asarray(12, np.int64),
    "metric/0000/accuracy/total/replica-0": np.asarray(0.5, np.float32),
}
STATE = {
    "position": {
        "step": 12, "phase": "train", "epoch_logs": {"loss": 0.5}, "stop_training": False,
    },
    "callbacks": {"History": {"epoch": [0]}},
    "learning_rate": 0.01,
}  # fmt: skip


def store(folder):
    return CheckpointStore(
        open_storage(str(folder)),
        fence=3, clock=lambda: 1500.5, new_writer=lambda: "0123456789ab",
    )  # fmt: skip


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_it_is_read():
    checkpoint = store(GOLDEN).read(NAME)
    assert checkpoint.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        found = checkpoint.arrays[name]
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert found.tobytes() == array.tobytes()
    manifest = checkpoint.manifest
    assert (manifest.step, manifest.fence, manifest.created) == (12, 3, 1500.5)
    assert (manifest.state, manifest.metrics) == (STATE, {"loss": 0.5})


def test_it_is_written_to_the_byte(tmp_path):
    store(tmp_path).save(12, ARRAYS, state=STATE, metrics={"loss": 0.5})
    assert contents(tmp_path) == contents(GOLDEN)


def test_its_sha256_is_over_names_types_shapes_and_bytes_of_model_and_optimizer():
    digest = hashlib.sha256()
    for name, kind, shape in [
        ("model/0000/dense/kernel", "float32", "(2, 3)"),
        ("model/0001/dense/bias", "bfloat16", "(2,)"),
        ("optimizer/0000/adam/iteration", "int64", "()"),
    ]:
        digest.update(f"{name} {kind} {shape};".encode() + ARRAYS[name].tobytes())
    assert digest.hexdigest() == SHA256 == store(GOLDEN).manifest(NAME).sha256


def test_its_folders_name_is_of_eight_digits_and_a_fence():
    assert [re.fullmatch(r"step-\d{8}-f\d+", path.name)[0] for path in GOLDEN.iterdir()] == [NAME]
