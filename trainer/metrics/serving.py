"""The metrics page of a configuration, served while a process works."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from trainer.config.models import MetricsConfig
from trainer.metrics.exposition import MetricsServer, PortInUseError

_PORTS_TO_TRY = 10


@contextmanager
def serving(
    config: MetricsConfig, registry: Any, log: Any, is_ready: Callable[[], bool] = lambda: True
) -> Iterator[MetricsServer | None]:
    """The metrics page, while the block runs. A taken port never keeps a run from training."""
    if not config.enabled:
        yield None
        return
    server = _start_server(config, registry, log, is_ready)
    try:
        yield server
    finally:
        if server is not None:
            server.close()


def _start_server(
    config: MetricsConfig, registry: Any, log: Any, is_ready: Callable[[], bool]
) -> MetricsServer | None:
    tries = _PORTS_TO_TRY if config.on_taken_port == "next" and config.port else 1
    for port in range(config.port, min(config.port + tries, 65536)):
        server = MetricsServer(registry, port=port, address=config.address, is_ready=is_ready)
        try:
            server.start()
        except PortInUseError as error:
            log.warning("metrics are not served", reason=str(error))
            continue
        log.info("metrics", url=f"http://{config.address}:{server.port}/metrics")
        return server
    return None
