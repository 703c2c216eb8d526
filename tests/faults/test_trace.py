"""A trace of some steps: where TensorBoard looks for it, and without changing the result."""

import uuid

import pytest

from tests.faults.harness import Run, finish, signal_at
from tests.small_storage import paths
from trainer.run.run_dir import PROFILES
from trainer.storage import open_storage

# No step that ends a call for another reason: saves come at 4, 8, 9, 12, and calls grow.
TRACED = {"train.profile.first": 11, "train.profile.last": 13}


def number_of_steps(data):
    """How many steps the trace has: how often the optimizer counted one."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace.FromString(data)
    (host,) = [plane for plane in space.planes if plane.name == "/host:CPU"]
    names = {number: kind.name for number, kind in host.event_metadata.items()}
    events = [names[event.metadata_id] for line in host.lines for event in line.events]
    return sum("AssignAddVariableOp:AssignAddVariableOp" in name for name in events)


def test_just_these_steps_are_traced_and_the_result_is_the_same(run, undisturbed):
    run.settings |= TRACED
    life = run.train()
    assert life.code == 0, life.text()
    (told,) = life.events("trace")
    file = f"{PROFILES}/steps-11-13/worker-0.xplane.pb"
    assert (told["first"], told["last"], told["url"]) == (11, 13, f"{run.dir}/{file}")
    assert told["look_at_it"] == f"tensorboard --logdir {run.dir}"
    assert number_of_steps((run.dir / file).read_bytes()) == 3
    assert run.sha256() == undisturbed.sha256()
    assert run.summary()["history"] == undisturbed.summary()["history"]
    assert not (undisturbed.dir / PROFILES).exists()


@pytest.mark.needs_gcs
def test_a_run_in_a_bucket_that_is_killed_meanwhile(zygote, gcs, proxy, tmp_path, undisturbed):
    url = f"gs://bucket/{uuid.uuid4().hex}/run"
    settings = TRACED | {"run.dir": url, "checkpoint.background": False}
    run = Run(zygote, tmp_path, settings, gcs.environment())
    assert run.train(callbacks=[signal_at(13)]).code == -9
    assert paths(open_storage(f"{url}/{PROFILES}")) == []
    finish(run, undisturbed)
    storage = open_storage(f"{url}/{PROFILES}")
    (path,) = paths(storage)
    assert path == "steps-13-13/worker-0.xplane.pb"
    assert number_of_steps(storage.read(path)) == 1


@pytest.mark.long
def test_of_a_group_worker_0_is_traced(agents, calm):
    agents.run.settings |= TRACED
    agents.train()
    assert [len(life.events("trace")) for _, life in sorted(agents.lives.items())] == [1, 0]
    assert agents.run.sha256() == calm.sha256()
