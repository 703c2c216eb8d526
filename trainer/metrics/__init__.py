"""What a run tells Prometheus: the metrics and the page that serves them."""

from trainer.metrics.exposition import MetricsServer, PortInUseError
from trainer.metrics.registry import Declaration, Metrics, describe

__all__ = ["Declaration", "Metrics", "MetricsServer", "PortInUseError", "describe"]
