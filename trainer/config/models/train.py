"""Keys of `train` and `callbacks`."""

import re
from difflib import get_close_matches
from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from trainer.config.fields import Section, changeable, free, identity
from trainer.config.locations import check_run_location
from trainer.config.messages import shown_value

# Here and not where they are built: a configuration is checked without loading Keras.
CALLBACKS = {
    "confusion_matrix": "trainer.pictures.confusion_matrix:ConfusionMatrix",
    "csv_logger": "keras.callbacks:CSVLogger",
    "early_stopping": "keras.callbacks:EarlyStopping",
    "loss_curves": "trainer.pictures.loss_curves:LossCurves",
    "loss_history": "trainer.pictures.loss_history:LossHistory",
    "mlflow": "trainer.callbacks.mlflow_logger:MlflowLogger",
    "model_checkpoint": "keras.callbacks:ModelCheckpoint",
    "model_picture": "trainer.pictures.model_picture:ModelPicture",
    "predictions": "trainer.pictures.predictions:Predictions",
    "reduce_lr_on_plateau": "keras.callbacks:ReduceLROnPlateau",
    "tensorboard": "trainer.callbacks.tensorboard:TensorBoard",
    "terminate_on_nan": "keras.callbacks:TerminateOnNaN",
    "wandb": "trainer.callbacks.wandb_logger:WandbLogger",
}


# A trace of many steps is large, and says no more than one of a few.
MOST_PROFILED_STEPS = 100


class ProfileConfig(Section):
    """Which steps a trace for TensorBoard is taken of."""

    first: int = free(help="Global step, from 1, that the trace begins with.", ge=1, le=10**15)
    last: int | None = free(
        None, help="Step that it ends with, 99 later at most; the first one by default."
    )

    @property
    def steps(self) -> range:
        """All of them."""
        return range(self.first, (self.last or self.first) + 1)

    @model_validator(mode="after")
    def _some_steps(self) -> Self:
        if self.last is not None and not 0 < len(self.steps) <= MOST_PROFILED_STEPS:
            most = self.first + MOST_PROFILED_STEPS - 1
            raise ValueError(f"last must be {self.first} to {most}, with first: {self.first}")
        return self


class TrainConfig(Section):
    """How long and by which means the model is trained."""

    epochs: int = free(help="Passes over the training records in all.", ge=1, le=10**9)
    seed: int = identity(0, help="Seed of weights, order of records and dropout.", ge=0, lt=2**31)
    engine: Literal["loop", "fit"] = free(
        "loop", help="Our loop, or plain keras.Model.fit as the reference (one device)."
    )
    steps_per_call: int | Literal["auto"] = free(
        "auto", help="Steps inside one call of the compiled function; 1 gives callbacks the "
        "weights of exactly their step."
    )  # fmt: skip
    gradient_norm: bool = free(
        False, help="Whether each step logs the norm of all its gradients, before they are "
        "clipped, as gradient_norm."
    )  # fmt: skip
    accumulate_steps: int = identity(
        1,
        help="Micro-batches into which each replica's share of data.batch_size is cut, to save "
        "memory: their gradients are applied as one step. Batch normalization sees one at a time.",
        ge=1,
        le=10**6,
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = identity(
        "float32", help="Keras dtype policy of the model; mixed_float16 scales its losses."
    )
    deterministic: bool = identity(
        True, help="Steps compute the same bits in every process; slower on GPUs."
    )
    threads: int = identity(
        2,
        help="Threads inside one operation. Never read from the machine: another number "
        "rounds differently.",
        ge=1,
        le=1024,
    )
    validate_every: int = changeable(1, help="Epochs between two validation passes.", ge=1)
    grace_seconds: float = free(
        10.0, help="Time from SIGTERM until the last save must be committed.", gt=0, le=86_400
    )
    profile: ProfileConfig | None = free(
        None, help="Take a trace of some steps for TensorBoard, on worker 0; the result stays."
    )
    start_from: str | None = identity(
        None, help="RUN_DIR, RUN_DIR@STEP or RUN_DIR@best whose weights a new run starts with."
    )
    start_layers: Literal["all", "shared"] = identity(
        "all",
        help="With train.start_from: the weights of an equal model, or of the layers alone that "
        "both models have, known by path, dtype and shape; the others begin as they were built.",
    )

    @field_validator("steps_per_call")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be 1 or more, or auto")
        return value

    @field_validator("start_from")
    @classmethod
    def _location(cls, value: str | None) -> str | None:
        if value is not None:
            run, at, step = value.rpartition("@")
            is_step = step.isdigit() or step in ("last", "best")
            check_run_location(run if at and is_step else value)
        return value

    @model_validator(mode="after")
    def _layers_of_something(self) -> Self:
        if self.start_layers != "all" and self.start_from is None:
            raise ValueError(
                "start_layers: shared takes them from another run: set train.start_from, or leave "
                "start_layers out"
            )
        return self


class CallbackConfig(Section):
    """One Keras callback: a name of ours or `package.module:Class`, and its arguments."""

    name: str = changeable(help=f"One of {', '.join(CALLBACKS)}, or package.module:Class.")
    args: dict[str, Any] = changeable({}, help="Keyword arguments of the callback.")
    stateless: bool = changeable(
        False, help="The callback holds nothing that a resumed run would need."
    )
    chief_only: bool = changeable(
        False, help="Run it on worker 0 alone, as those of ours and Keras' are that write files or "
        "report to a service. It must not end training or change the learning rate.",
    )  # fmt: skip

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in CALLBACKS and not re.fullmatch(r"[\w.]+:\w+", name):
            near = get_close_matches(name, CALLBACKS, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"use one of {', '.join(CALLBACKS)}"
            raise ValueError(
                f"unknown callback {shown_value(name)}: {hint} (or package.module:Class)"
            )
        return name
