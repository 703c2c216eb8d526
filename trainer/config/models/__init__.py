"""The configuration of a run: one frozen tree, the same in YAML files and in the chart.

Every field is declared as identity, changeable or free (see `trainer.config.fields`).
Nothing here touches files, the network, TensorFlow or Keras.
"""

from trainer.config.models.checkpoint import BestConfig, CheckpointConfig
from trainer.config.models.cluster import ClusterConfig
from trainer.config.models.data import DataConfig
from trainer.config.models.output import ExportConfig, LogConfig, MetricsConfig
from trainer.config.models.run import LocationConfig, RunConfig
from trainer.config.models.train import CALLBACKS, CallbackConfig, ProfileConfig, TrainConfig

__all__ = [
    "CALLBACKS",
    "BestConfig",
    "CallbackConfig",
    "CheckpointConfig",
    "ClusterConfig",
    "DataConfig",
    "ExportConfig",
    "LocationConfig",
    "LogConfig",
    "MetricsConfig",
    "ProfileConfig",
    "RunConfig",
    "TrainConfig",
]
