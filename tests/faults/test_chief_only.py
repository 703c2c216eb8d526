"""A callback that runs on worker 0 alone cannot decide what all workers do."""

import pytest

from tests.emulator import free_port
from trainer.cluster import tf_config

SCRIPT = """
import keras
import numpy as np
import trainer


class Stop(keras.callbacks.Callback):
    chief_only = True

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
x = np.ones((40, 2), "float32")
trainer.fit(model, x, x[:, 0], batch_size=8, epochs=3, callbacks=[Stop()])
"""


def two_workers(run, **settings):
    """Their codes; without agents, which would end one when the other fails."""
    addresses = tuple(f"127.0.0.1:{free_port()}" for _ in range(2))
    lives = [
        run.start(environ={"TF_CONFIG": tf_config(addresses, worker)}, **settings)
        for worker in range(2)
    ]
    return [life.wait() for life in lives]


def chief_only(name, hook, at):
    args = {"at": at, "hook": hook}
    return {
        "name": f"tests.faults.inject:{name}", "args": args, "stateless": True, "chief_only": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "hook", "at", "did", "saved"),
    [
        ("StopAt", "on_train_batch_end", 3, "set stop_training", 4),
        pytest.param(
            "RateAt", "on_epoch_end", 2, "changed learning_rate", 18, marks=pytest.mark.long
        ),
        pytest.param(
            "RateAt", "on_test_end", 1, "changed learning_rate", 10, marks=pytest.mark.long
        ),
        pytest.param(
            "StopAt", "on_epoch_begin", 2, "set stop_training", 10, marks=pytest.mark.long
        ),
    ],
)
def test_what_one_worker_alone_does_is_refused_by_all(run, name, hook, at, did, saved):
    given = [chief_only(name, hook, at)]
    codes = two_workers(run, callbacks=given, train__steps_per_call=1)
    assert codes == [2, 2], run.lives[0].text()
    for life in run.lives:
        [error] = life.events("error")
        assert f"callback {name} {did} in {hook} on worker 0 alone" in error["message"]
    assert len(run.fired()) == 1
    assert run.committed()[-1] == saved


def test_what_one_worker_refuses_at_the_start_all_refuse(run):
    assert two_workers(run, callbacks=[{"name": "mlflow"}]) == [2, 2], run.lives[0].text()
    assert "set MLFLOW_TRACKING_URI" in run.lives[0].events("error")[0]["message"]
    assert "another worker refuses its callbacks" in run.lives[1].events("error")[0]["message"]


def test_one_worker_refuses_what_several_would(run):
    assert run.train(callbacks=[chief_only("StopAt", "on_epoch_end", 1)]).code == 2
    assert "set stop_training in on_epoch_end" in run.lives[0].events("error")[0]["message"]
    # What had been trained is saved, as if it had not decided.
    assert run.committed() == [4, 8, 9]


def test_in_a_script_the_class_says_it(run):
    script = run.folder / "train.py"
    script.write_text(SCRIPT)
    run.script = (str(script),)
    run.settings = {"metrics.enabled": False}
    assert two_workers(run) == [2, 2], run.lives[0].text()
    for life in run.lives:
        assert "callback Stop set stop_training" in life.events("error")[0]["message"]
