"""The whole tree, and where the run lives."""

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from trainer.config.fields import Section, changeable, free, identity
from trainer.config.locations import check_run_location
from trainer.config.models.checkpoint import CheckpointConfig
from trainer.config.models.cluster import ClusterConfig
from trainer.config.models.data import DataConfig
from trainer.config.models.output import ExportConfig, LogConfig, MetricsConfig
from trainer.config.models.train import CallbackConfig, TrainConfig

# In place of a recipe's name: a script says what is trained, and on what.
SCRIPT = "script"


class LocationConfig(Section):
    """Where the run lives."""

    dir: str = free("runs/local", help="Folder of checkpoints, resolved config and summary.")
    name: str | None = free(
        None,
        help="Name in logs and metrics; the last part of run.dir by default.",
        pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$",
    )

    lease_seconds: float = free(
        60.0, help="Without a sign of life for so long, a process loses the run to another job.",
        ge=3, le=86_400,
    )  # fmt: skip

    wait_seconds: float = free(
        60.0, help="A start retries storage that refuses or cannot be reached for so long: a new "
        "identity is known only after a minute.", ge=0,
    )  # fmt: skip

    max_restarts: int = free(
        3, help="Workers in a row that may fail without a new step before the run ends, code 7.",
        ge=0, le=1000,
    )  # fmt: skip

    hang_seconds: float = free(
        1800.0, help="A worker that finishes no call of steps and no stage for so long is taken "
        "for hung: its stacks are printed, and it is started anew.", ge=1, le=604_800,
    )  # fmt: skip

    warm_spare: bool = free(
        False, help="Keep a second process ready that has imported TensorFlow, so that a worker is "
        "replaced sooner; it takes some 500 MB.",
    )  # fmt: skip

    _dir = field_validator("dir")(check_run_location)


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
        is_validated = self.data.validation is not None or self.recipe == SCRIPT
        if best is not None and best.metric.startswith("val_") and not is_validated:
            raise ValueError(
                f"checkpoint.best.metric '{best.metric}' needs data.validation: name a split"
            )
        return self

    @model_validator(mode="after")
    def _replicas_fit(self) -> Self:
        # "auto" is known when the devices are.
        replicas = 1 if self.cluster.replicas == "auto" else self.cluster.replicas
        if (problem := self.parts_problem(replicas)) is not None:
            raise ValueError(problem)
        if self.train.engine == "fit" and replicas > 1:
            raise ValueError("train.engine: fit trains on one device: use the loop engine")
        if self.train.engine == "fit" and self.train.accumulate_steps > 1:
            raise ValueError("train.engine: fit does not accumulate: use the loop engine")
        if self.train.engine == "fit" and self.train.gradient_norm:
            raise ValueError(
                "train.engine: fit does not measure train.gradient_norm: use the loop engine"
            )
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        cluster, served = self.cluster, self.metrics
        if cluster.port in cluster.ports:
            raise ValueError(
                f"cluster.port {cluster.port} is one of cluster.port_range {cluster.port_range}: "
                "use another"
            )
        if served.enabled and served.port in cluster.ports:
            raise ValueError(
                f"metrics.port {served.port} is one of cluster.port_range {cluster.port_range}: "
                "use another"
            )
        if served.enabled and served.port == cluster.port:
            raise ValueError(f"metrics.port {served.port} is also cluster.port: use another")
        return self

    def parts_problem(self, replicas: int, num_workers: int = 1) -> str | None:
        """Why so many replicas cannot share a batch, or its micro-batches, equally; or None.

        replicas: of all workers together. What a script trains on is known when it does.
        """
        if self.recipe == SCRIPT:
            return None
        return self.data.parts_problem(replicas, self.train.accumulate_steps, num_workers)

    def on_one_device(self) -> Self:
        """The same for who only looks at the model, be it elsewhere than where it was trained.

        On a GPU, where there is one and the run is not told to use the CPU.
        """
        device = "cpu" if self.cluster.device == "cpu" else "auto"
        cluster = self.cluster.model_copy(update={"device": device, "replicas": 1})
        return self.model_copy(update={"cluster": cluster})

    @property
    def what(self) -> str:
        """What is trained, for messages."""
        return "the script" if self.recipe == SCRIPT else f"recipe {self.recipe}"

    @property
    def run_name(self) -> str:
        """The run's name: configured, or the last part of its folder."""
        return self.run.name or self.run.dir.rstrip("/").rsplit("/", 1)[-1]
