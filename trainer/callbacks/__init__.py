"""Keras callbacks: ours, and those that a configuration names."""

from trainer.callbacks.mlflow_logger import MlflowLogger
from trainer.callbacks.wandb_logger import WandbLogger

__all__ = ["MlflowLogger", "WandbLogger"]
