"""What a run tells Prometheus: the metrics and the page that serves them."""

from trainer.declarations import Declaration, describe
from trainer.metrics.exposition import MetricsServer, PortInUseError
from trainer.metrics.registry import Metrics

__all__ = ["Declaration", "Metrics", "MetricsServer", "PortInUseError", "describe"]
