"""What a run says: one JSON object a line for machines, short lines and a bar on a terminal.

Messages of Python's `logging` (ours and of libraries) go the same way.
"""

import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TextIO

from trainer import strict_json
from trainer.config.models import LogConfig


def _import_structlog() -> Any:
    """Without rich, which structlog would load for its tracebacks: 9 MB of an agent's 60."""
    is_there = "rich" in sys.modules
    if not is_there:
        sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog

        return structlog
    finally:
        if not is_there:
            del sys.modules["rich"]


structlog = _import_structlog()


def is_for_machines(config: LogConfig, stream: TextIO | None = None) -> bool:
    """Whether to print JSON: as configured, or when nobody watches (by default sys.stdout)."""
    is_watched = (stream or sys.stdout).isatty()
    return config.format == "json" or (config.format == "auto" and not is_watched)


def configure_logging(*, as_json: bool, stream: TextIO | None = None) -> None:
    """Send every event to `stream` (by default sys.stdout), in one of the two forms."""
    stream = stream or sys.stdout  # now, not at import: the command line puts its own there
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: Any = structlog.processors.JSONRenderer(serializer=strict_json.dumps)
    if not as_json:
        shared[1] = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
        render = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), pad_event_to=12, sort_keys=False
        )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
    )
    handler = _Handler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    # Imported while there was no handler, it has one of its own, and would say everything twice.
    logging.getLogger("tensorflow").handlers = []
    logging.getLogger("trainer").setLevel(logging.INFO)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def as_fields(logs: Mapping[str, Any] | None) -> dict[str, float]:
    """A model's logs, with five digits, as fields of an event beside those of ours."""
    return {
        f"metric_{name}" if name in _TAKEN else name: round(float(value), 5)
        for name, value in (logs or {}).items()
    }


_TAKEN = {
    "epoch", "eta_seconds", "event", "examples_per_second", "level", "step", "target_step",
    "timestamp",
    # Of structlog and Python's logging.
    "exc_info", "extra", "self", "stack_info", "stacklevel",
}  # fmt: skip


class _Handler(logging.StreamHandler[TextIO]):
    """Training goes on when its output cannot be written: quietly when its reader has gone."""

    _is_told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not isinstance(error, BrokenPipeError) and not self._is_told:
            self._is_told = True
            with suppress(OSError):
                print(f"trainer: the log cannot be written: {error.strerror}", file=sys.stderr)


def get_log() -> Any:
    """The log of the trainer: `log.info("restore", step=1200)`."""
    return structlog.stdlib.get_logger("trainer")
