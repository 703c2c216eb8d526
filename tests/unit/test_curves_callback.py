"""Which metrics of a model the curves take apart as means over the epoch so far."""

import keras
import numpy as np

from trainer.callbacks.curves import CurvesOfFit, names_of_means
from trainer.run.curve_store import RunCurves
from trainer.run.curves import Recorder
from trainer.storage import open_storage

X, Y = np.ones((8, 2), "float32"), np.zeros((8, 1), "int32")


def outputs(*names):
    inputs = keras.Input((2,))
    return keras.Model(
        inputs,
        [keras.layers.Dense(2, activation="softmax", name=each)(inputs) for each in names],
    )


def trained(model, y, **metrics):
    model.compile("sgd", "sparse_categorical_crossentropy", **metrics)
    return model, model.train_on_batch(X, y, return_dict=True)


def test_accuracy_is_a_mean_and_a_root_is_none():
    model, logs = trained(
        outputs("a"), Y, metrics=["accuracy", keras.metrics.RootMeanSquaredError(name="root")]
    )
    assert set(logs) == {"loss", "accuracy", "root"}
    assert names_of_means(model) == ["loss", "accuracy"]


def test_several_outputs_put_their_names_before_them():
    model, logs = trained(outputs("a", "b"), [Y, Y], metrics=[["accuracy"], ["accuracy"]])
    assert {"loss", "a_accuracy", "b_accuracy"} <= set(names_of_means(model)) <= set(logs)


def test_metrics_with_weights_and_the_second_of_a_name_are_left_out():
    model, logs = trained(
        outputs("a"), Y, metrics=["accuracy", "accuracy"], weighted_metrics=["mae"]
    )
    assert {"accuracy_1", "mae"} <= set(logs)
    assert names_of_means(model) == ["loss", "accuracy"]


def test_there_is_none_before_the_first_step():
    model = outputs("a")
    model.compile("sgd", "mse", metrics=["accuracy"])
    assert names_of_means(model) == []


def test_only_names_in_logs_are_kept():
    recorder = Recorder(1)
    recorder.begin(0, 2, 2)
    recorder.means = ["loss", "accuracy", "gone"]
    recorder.call({"loss": [1.0], "accuracy": [0.5]}, [1.0], [0.0])
    assert recorder.frozen().life().means == ["loss", "accuracy"]


def test_training_tells_it(tmp_path):
    curves = RunCurves(open_storage(str(tmp_path)), 1)
    curves.recorder.begin(0, 2, 2)
    model, _ = trained(outputs("a"), Y, metrics=["accuracy"])
    model.fit(X, Y, batch_size=4, verbose=0, callbacks=[CurvesOfFit(curves, curves.recorder)])
    assert curves.recorder.frozen().life().means == ["loss", "accuracy"]
