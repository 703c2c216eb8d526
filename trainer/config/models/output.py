"""Keys of `metrics`, `export` and `log`: what others get to see of a run."""

import re
from typing import Literal

from pydantic import field_validator

from trainer.config.fields import Section, free
from trainer.declarations import RESERVED_LABELS

_LABEL_NAME = "^[a-zA-Z_][a-zA-Z0-9_]{0,62}$"
_LABEL_VALUE = re.compile(r"[\w .:/@+-]{0,128}", re.ASCII)
_ADDRESS = re.compile(r"[0-9A-Za-z.:-]{1,253}")


class MetricsConfig(Section):
    """The Prometheus page."""

    enabled: bool = free(True, help="Serve /metrics.")
    port: int = free(9400, help="Port of /metrics; 0 takes any free one.", ge=0, le=65535)
    address: str = free("127.0.0.1", help="Address that /metrics is served on.")
    on_taken_port: Literal["continue", "next"] = free(
        "continue", help="A taken port: train on without the page, or try the next ports."
    )
    labels: dict[str, str] = free(
        {},
        help="Constant labels on every metric, at most 10, with names that no metric has.",
        max_length=10,
        json_schema={
            # By name, because helm tells of propertyNames with a wrong path.
            "properties": dict.fromkeys(sorted(RESERVED_LABELS), False),
            "patternProperties": {"^__": False, _LABEL_NAME: {"type": "string"}},
            "additionalProperties": False,
        },
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
            if not re.fullmatch(_LABEL_NAME, name) or name.startswith("__"):
                raise ValueError(f"label name {name!r} must be letters, digits and _, as in team")
            if name in RESERVED_LABELS:
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
    keep: bool = free(
        True,
        help="Keep the last 1 MB that a worker prints in the run's folder, for trainer runs logs.",
    )
