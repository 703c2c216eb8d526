"""The network of recipe `tickets`: the same layers as a graph, and as a class."""

from typing import Any

import keras
from keras import layers

from trainer.recipes.tickets import DEPARTMENTS, DIFFICULTIES, INPUTS, OUTPUTS, TicketsParams


@keras.saving.register_keras_serializable("trainer")
class TicketsModel(keras.Model):
    """Inputs and outputs are dicts, or sequences in the order of INPUTS and OUTPUTS.

    uint8 [n, words], [n, words], [n, tags] -> float32 [n, 1] and [n, departments], and with
    `difficulty` [n, difficulties].
    """

    def __init__(
        self, *, units: int, dropout: float, structure: str, difficulty: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._config = {
            "units": units, "dropout": dropout, "structure": structure, "difficulty": difficulty,
        }  # fmt: skip
        # In the logs, also where outputs go by position.
        self.output_names = [*OUTPUTS, "difficulty"] if difficulty else list(OUTPUTS)
        self.together = layers.Concatenate()
        self.numbers = layers.Rescaling(1.0)
        self.hidden = layers.Dense(units, activation="relu", name="features")
        self.drop = layers.Dropout(dropout)
        self.priority = layers.Dense(1, activation="sigmoid", name="priority")
        self.department = layers.Dense(DEPARTMENTS, activation="softmax", name="department")
        if difficulty:
            self.difficulty = layers.Dense(DIFFICULTIES, activation="softmax", name="difficulty")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """All outputs, structured as the inputs are."""
        is_by_name = self._config["structure"] == "dicts"
        texts = [inputs[name] for name in INPUTS] if is_by_name else list(inputs)
        features = self.hidden(self.numbers(self.together(texts)))
        x = self.drop(features, training=training)
        outputs = [self.priority(x), self.department(x)]
        if self._config["difficulty"]:
            outputs.append(self.difficulty(features))
        return dict(zip(self.output_names, outputs, strict=True)) if is_by_name else tuple(outputs)

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
    is_by_name = params.structure == "dicts"
    model = (
        keras.Model(inputs, outputs)
        if is_by_name
        else keras.Model(list(inputs.values()), list(outputs.values()))
    )
    return grown(model) if params.difficulty else model


def grown(model: Any) -> Any:
    """A model with one output more, made of what its inner layer `features` puts out."""
    features = model.get_layer("features").output
    difficulty = layers.Dense(DIFFICULTIES, activation="softmax", name="difficulty")(features)
    if isinstance(model.output, dict):
        return keras.Model(model.input, {**model.output, "difficulty": difficulty})
    return keras.Model(model.input, [*model.output, difficulty])


def subclassed(params: TicketsParams) -> Any:
    """The same as a class; its variables are there, as a graph's are, so that they can freeze."""
    model = TicketsModel(
        units=params.units, dropout=params.dropout, structure=params.structure,
        difficulty=params.difficulty,
    )  # fmt: skip
    inputs = {name: keras.Input((size,), dtype="uint8") for name, size in INPUTS.items()}
    model(inputs if params.structure == "dicts" else list(inputs.values()))
    return model


def build(params: TicketsParams) -> Any:
    """The compiled model: a loss, its weight and a metric for each output."""
    model = functional(params) if params.form == "functional" else subclassed(params)
    if params.frozen:
        for layer in model.layers:
            layer.trainable = layer.name == "difficulty"
    losses = {
        "priority": "mean_squared_error",
        "department": "sparse_categorical_crossentropy",
        "difficulty": "sparse_categorical_crossentropy",
    }
    weights = {
        "priority": params.priority_weight,
        "department": params.department_weight,
        "difficulty": params.difficulty_weight,
    }
    metrics = {
        "priority": ["mean_absolute_error"],
        "department": ["accuracy"],
        "difficulty": ["accuracy"],
    }
    model.compile(
        keras.optimizers.RMSprop(params.learning_rate),
        loss=_structured(losses, params),
        loss_weights=_structured(weights, params),
        metrics=_structured(metrics, params),
    )
    return model


def _structured(parts: dict[str, Any], params: TicketsParams) -> Any:
    """The parts of the outputs that there are, by name or by position."""
    own = {name: parts[name] for name in params.outputs}
    return own if params.structure == "dicts" else list(own.values())
