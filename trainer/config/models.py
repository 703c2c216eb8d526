"""The configuration of a run: one frozen tree, the same in YAML files and in the chart.

Every field is declared as identity, changeable or free (see `trainer.config.fields`).
Nothing here touches files, the network, TensorFlow or Keras.
"""

import re
from typing import Any, Literal, Self
from urllib.parse import unquote

from pydantic import Field, field_validator, model_validator

from trainer.config.fields import Section, changeable, free, identity

_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,62}")
_LABEL_VALUE = re.compile(r"[\w .:/@+-]{0,128}", re.ASCII)
_RESERVED_LABELS = {"le", "quantile", "run", "split", "metric", "result", "cause", "worker"}
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):(.*)", re.DOTALL)
_SCHEMES = ("gs", "file", "builtin")
_ADDRESS = re.compile(r"[0-9A-Za-z.:-]{1,253}")


def check_location(value: str) -> str:
    """Refuse a path or URL that leaves its root, hides a secret or has a strange scheme.

    Nothing of a refused URL is shown but a scheme: the rest may be private.
    """
    if not value.isprintable() or not value.strip():
        raise ValueError("must be a path or URL of printable characters, and not empty")
    match = _URL.fullmatch(value)
    rest = match.group(2) if match else value
    if match and match.group(1).lower() not in _SCHEMES:
        shown = f"scheme '{match.group(1)}://'" if rest.startswith("//") else "a URL of this form"
        raise ValueError(f"{shown} is not supported: use a local folder, gs:// or builtin:")
    if match and ("@" in rest or "?" in rest or "#" in rest):
        raise ValueError("a URL here must not hold user names, passwords, queries or fragments")
    # As it will be read: a file URL's percent-encoding may hide dots.
    if {"..", "~"} & {unquote(part) for part in rest.split("/")} or "\\" in unquote(rest):
        raise ValueError("must not contain '..', '~' or a backslash: write the path that is meant")
    if not match and value.startswith("//"):
        raise ValueError("must not start with '//': use a local folder, gs:// or builtin:")
    return value


def check_run_location(value: str) -> str:
    """The same for what is written to, which the package's own data is not."""
    if value.partition(":")[0].lower() == "builtin":
        raise ValueError("builtin: names data in the package: use a local folder or gs://")
    return check_location(value)


class LocationConfig(Section):
    """Where the run lives."""

    dir: str = free("runs/local", help="Folder of checkpoints, resolved config and summary.")
    name: str | None = free(
        None,
        help="Name in logs and metrics; the last part of run.dir by default.",
        pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$",
    )

    _dir = field_validator("dir")(check_run_location)


class DataConfig(Section):
    """Which records are read, and in which order."""

    url: str = free(
        help="A prepared data set: a folder, or builtin:NAME. Its content, not its place, "
        "is part of the run's identity."
    )
    train: str = identity("train", help="Split or slice to train on, as in 'train[:90%]'.")
    validation: str | None = changeable(
        None, help="Split or slice to validate on after each epoch; callbacks may act on it."
    )
    test: str | None = free(None, help="Split or slice for the final test pass.")
    batch_size: int = identity(
        help="Records in one global step, over all replicas.", ge=1, le=10**9
    )
    eval_batch_size: int | None = changeable(
        None, help="Records in one validation or test step; data.batch_size by default.", ge=1
    )
    streams: int = identity(
        8,
        help="Fixed record sequences that every world size shares: a multiple of each number "
        "of workers that the run may have; must divide data.batch_size.",
        ge=1,
    )
    block_records: int = identity(
        500, help="Consecutive records that are read and moved together.", ge=1
    )
    shuffle_blocks: int = identity(
        4,
        help="Blocks of a stream whose records are mixed with each other. Memory needed: "
        "streams x shuffle_blocks x block_records records.",
        ge=1,
    )
    last_batch: Literal["keep", "drop"] = identity(
        "keep", help="An epoch's last, smaller batch: train on it as it is, or drop it."
    )
    cache: Literal["auto", "memory", "stream"] = free(
        "auto", help="Hold decoded records in memory, or read blocks as they are needed."
    )
    memory_limit_mb: int = free(
        512, help="Decoded size up to which cache: auto holds the data in memory.", ge=1
    )
    max_bad_records: int = identity(
        0, help="Damaged records that may be replaced by their neighbours before giving up.", ge=0
    )

    _url = field_validator("url")(check_location)

    @model_validator(mode="after")
    def _batch_fits_streams(self) -> Self:
        if self.batch_size % self.streams:
            below = self.batch_size // self.streams * self.streams
            fits = [str(n) for n in (below, below + self.streams) if n]
            raise ValueError(
                f"batch_size {self.batch_size} cannot be split over {self.streams} streams: "
                f"use a multiple of {self.streams} ({' or '.join(fits)}), or other data.streams"
            )
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
    precision: Literal["float32", "mixed_bfloat16"] = identity(
        "float32", help="Keras dtype policy of the model."
    )
    deterministic: bool = identity(
        True, help="Only operations that repeat bit for bit; slower on GPUs."
    )
    threads: int = identity(
        2,
        help="Threads inside one operation. Never read from the machine: another number "
        "rounds differently.",
        ge=1,
    )
    validate_every: int = changeable(1, help="Epochs between two validation passes.", ge=1)
    grace_seconds: float = free(
        10.0, help="Time from SIGTERM until the last save must be committed.", gt=0
    )
    start_from: str | None = identity(
        None, help="RUN_DIR or RUN_DIR@STEP whose weights a new run starts with."
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


class ClusterConfig(Section):
    """Which devices one worker uses."""

    device: Literal["auto", "cpu", "gpu"] = free("auto", help="GPUs if there are any, or one kind.")
    replicas: int | Literal["auto"] = free(
        "auto", help="Copies of the model in one worker: all its GPUs, or one on a CPU. On a "
        "CPU, more than one makes as many logical devices."
    )  # fmt: skip

    @field_validator("replicas")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be 1 or more, or auto")
        return value


class BestConfig(Section):
    """Which checkpoint counts as the best."""

    metric: str = free("val_loss", help="A log name of an epoch, as in val_loss.")
    mode: Literal["auto", "min", "max"] = free(
        "auto",
        help="Whether lower or higher is better; auto takes higher for accuracy, auc, "
        "precision, recall and f1, else lower.",
    )

    @property
    def is_higher_better(self) -> bool:
        """What `mode` says, or stands for."""
        rising = any(word in self.metric for word in ("acc", "auc", "precision", "recall", "f1"))
        return self.mode == "max" or (self.mode == "auto" and rising)


class CheckpointConfig(Section):
    """When to save and what to keep."""

    every_epochs: int | None = free(1, help="Save after every so many epochs.", ge=1)
    every_steps: int | None = free(None, help="Save after every so many steps.", ge=1)
    every_seconds: float | Literal["auto"] | None = free(
        None, help="Save after so much time; auto balances the cost of a save against the "
        "work that a failure loses (Young 1974)."
    )  # fmt: skip
    failures_per_day: float = free(
        1.0, help="Expected failures of the whole run a day, for every_seconds: auto.", gt=0
    )
    keep_last: int = free(3, help="Newest checkpoints to keep.", ge=1)
    keep_every_steps: int | None = free(
        None, help="Keep for ever each checkpoint whose step is a multiple of this.", ge=1
    )
    best: BestConfig | None = free(None, help="Also keep the best by a metric of its epoch.")
    background: bool = free(True, help="Write while training goes on.")
    start_over: bool = free(
        False, help="Start at step 0 when every checkpoint of the run is damaged."
    )


class MetricsConfig(Section):
    """The Prometheus page."""

    enabled: bool = free(True, help="Serve /metrics.")
    port: int = free(9400, help="Port of /metrics; 0 takes any free one.", ge=0, le=65535)
    address: str = free("127.0.0.1", help="Address that /metrics is served on.")
    on_taken_port: Literal["continue", "next"] = free(
        "continue", help="A taken port: train on without the page, or try the next ports."
    )
    labels: dict[str, str] = free(
        {}, help="Constant labels on every metric, at most 10.", max_length=10
    )

    @field_validator("address")
    @classmethod
    def _address_is_a_host(cls, address: str) -> str:
        if not _ADDRESS.fullmatch(address):
            raise ValueError("must be an address or a host name, as in 127.0.0.1 or 0.0.0.0")
        return address

    @field_validator("labels")
    @classmethod
    def _labels_are_harmless(cls, labels: dict[str, str]) -> dict[str, str]:
        for name, value in labels.items():
            if not _LABEL_NAME.fullmatch(name) or name.startswith("__"):
                raise ValueError(f"label name {name!r} must be letters, digits and _, as in team")
            if name in _RESERVED_LABELS:
                raise ValueError(f"label name {name!r} is used by the trainer: choose another")
            if not _LABEL_VALUE.fullmatch(value):
                raise ValueError(
                    f"value of label {name!r} must be at most 128 letters, digits and ' .:/@+_-'"
                )
        return labels


class ExportConfig(Section):
    """The model files written when training is complete."""

    formats: tuple[Literal["keras", "saved_model"], ...] = free(
        ("keras", "saved_model"), help="Files to write; none leaves only checkpoints.", strict=False
    )
    weights: Literal["last", "best"] = free(
        "last", help="Weights of the last step or of the best checkpoint."
    )


class LogConfig(Section):
    """What is printed while training."""

    format: Literal["auto", "text", "json"] = free(
        "auto", help="A progress bar on a terminal and one JSON object a line elsewhere, or one."
    )
    every_seconds: float = free(5.0, help="Time between two progress lines in JSON.", gt=0)


class CallbackConfig(Section):
    """One Keras callback: a name of ours or `package.module:Class`, and its arguments."""

    name: str = changeable(help="A name of `trainer.callbacks`, or package.module:Class.")
    args: dict[str, Any] = changeable({}, help="Keyword arguments of the callback.")
    stateless: bool = changeable(
        False, help="The callback holds nothing that a resumed run would need."
    )


class RunConfig(Section):
    """Everything a run is told."""

    recipe: str = identity(help="A recipe's name, or package.module:recipe.")
    params: dict[str, Any] = Field({}, description="Parameters of the recipe.")
    run: LocationConfig = Field(default_factory=LocationConfig, description="Where the run lives.")
    data: DataConfig
    train: TrainConfig
    cluster: ClusterConfig = Field(default_factory=ClusterConfig)
    checkpoint: CheckpointConfig = Field(default_factory=CheckpointConfig)
    callbacks: tuple[CallbackConfig, ...] = changeable(
        (), help="Keras callbacks beside the recipe's own.", strict=False
    )
    metrics: MetricsConfig = Field(default_factory=MetricsConfig)
    export: ExportConfig = Field(default_factory=ExportConfig)
    log: LogConfig = Field(default_factory=LogConfig)

    @model_validator(mode="after")
    def _best_is_defined(self) -> Self:
        best = self.checkpoint.best
        if self.export.weights == "best" and best is None:
            raise ValueError(
                "export.weights: best needs checkpoint.best, as in checkpoint.best.metric=val_loss"
            )
        if best is not None and best.metric.startswith("val_") and self.data.validation is None:
            raise ValueError(
                f"checkpoint.best.metric '{best.metric}' needs data.validation: name a split"
            )
        return self

    @property
    def run_name(self) -> str:
        """The run's name: configured, or the last part of its folder."""
        return self.run.name or self.run.dir.rstrip("/").rsplit("/", 1)[-1]
