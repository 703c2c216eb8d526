"""Configuration as frozen data: declared, loaded and compared without TensorFlow."""

from trainer.config.fields import Section, changeable, field_kinds, free, identity
from trainer.config.load import (
    apply_overrides,
    check_same_run,
    dump,
    load_config,
    read_tree,
    validate,
)
from trainer.config.models import CheckpointConfig, DataConfig, RunConfig, TrainConfig
from trainer.config.yaml_text import parse_yaml

__all__ = [
    "CheckpointConfig",
    "DataConfig",
    "RunConfig",
    "Section",
    "TrainConfig",
    "apply_overrides",
    "changeable",
    "check_same_run",
    "dump",
    "field_kinds",
    "free",
    "identity",
    "load_config",
    "parse_yaml",
    "read_tree",
    "validate",
]
