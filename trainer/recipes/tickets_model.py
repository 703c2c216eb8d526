"""The network of recipe `tickets`: the same layers as a graph, and as a class."""

from typing import Any

import keras
from keras import layers

from trainer.recipes.tickets import DEPARTMENTS, INPUTS, OUTPUTS, TicketsParams


@keras.saving.register_keras_serializable("trainer")
class TicketsModel(keras.Model):
    """Inputs and outputs are dicts, or sequences in the order of INPUTS and OUTPUTS.

    uint8 [n, words], [n, words], [n, tags] -> float32 [n, 1] and [n, departments].
    """

    def __init__(self, *, units: int, dropout: float, structure: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._config = {"units": units, "dropout": dropout, "structure": structure}
        self.output_names = list(OUTPUTS)  # in the logs, also where outputs go by position
        self.together = layers.Concatenate()
        self.numbers = layers.Rescaling(1.0)
        self.hidden = layers.Dense(units, activation="relu", name="features")
        self.drop = layers.Dropout(dropout)
        self.priority = layers.Dense(1, activation="sigmoid", name="priority")
        self.department = layers.Dense(DEPARTMENTS, activation="softmax", name="department")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Both outputs, structured as the inputs are."""
        is_by_name = self._config["structure"] == "dicts"
        texts = [inputs[name] for name in INPUTS] if is_by_name else list(inputs)
        x = self.hidden(self.numbers(self.together(texts)))
        x = self.drop(x, training=training)
        outputs = self.priority(x), self.department(x)
        return dict(zip(OUTPUTS, outputs, strict=True)) if is_by_name else outputs

    def get_config(self) -> dict[str, Any]:
        """What makes an equal one."""
        return {**self._config, "name": self.name}


def functional(params: TicketsParams) -> Any:
    """The same as a graph, in which every tensor between layers can be had."""
    inputs = {name: keras.Input((size,), dtype="uint8", name=name) for name, size in INPUTS.items()}
    x = layers.Rescaling(1.0)(layers.Concatenate()(list(inputs.values())))
    x = layers.Dense(params.units, activation="relu", name="features")(x)
    x = layers.Dropout(params.dropout)(x)
    outputs = {
        "priority": layers.Dense(1, activation="sigmoid", name="priority")(x),
        "department": layers.Dense(DEPARTMENTS, activation="softmax", name="department")(x),
    }
    if params.structure == "dicts":
        return keras.Model(inputs, outputs)
    return keras.Model(list(inputs.values()), list(outputs.values()))


def build(params: TicketsParams) -> Any:
    """The compiled model: a loss, its weight and a metric for each output."""
    if params.form == "functional":
        model = functional(params)
    else:
        model = TicketsModel(units=params.units, dropout=params.dropout, structure=params.structure)
    losses = {"priority": "mean_squared_error", "department": "sparse_categorical_crossentropy"}
    weights = {"priority": params.priority_weight, "department": params.department_weight}
    metrics = {"priority": ["mean_absolute_error"], "department": ["accuracy"]}
    is_by_name = params.structure == "dicts"
    model.compile(
        keras.optimizers.RMSprop(params.learning_rate),
        loss=losses if is_by_name else list(losses.values()),
        loss_weights=weights if is_by_name else list(weights.values()),
        metrics=metrics if is_by_name else list(metrics.values()),
    )
    return model
