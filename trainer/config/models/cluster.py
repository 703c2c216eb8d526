"""Devices of one worker, and how several workers find each other."""

import re
from typing import Literal

from pydantic import field_validator

from trainer.config.fields import Section, free

_RANGE = re.compile(r"([0-9]{1,5})-([0-9]{1,5})")


class ClusterConfig(Section):
    """Which devices one worker uses, and how workers gather."""

    device: Literal["auto", "cpu", "gpu"] = free("auto", help="GPUs if there are any, or one kind.")
    replicas: int | Literal["auto"] = free(
        "auto", help="Copies of the model in one worker: all its GPUs, or one on a CPU. On a "
        "CPU, more than one makes as many logical devices."
    )  # fmt: skip
    communication: Literal["auto", "ring", "nccl"] = free(
        "auto", help="What adds up gradients over workers: rings of gRPC, or NCCL between GPUs."
    )
    min_workers: int | None = free(
        None, help="After cluster.wait_seconds, so many workers may go on without the others; all "
        "are needed by default. Worker 0 always is.", ge=1, le=10_000,
    )  # fmt: skip
    wait_seconds: float = free(
        300.0, help="Workers wait so long for each other, each time that they gather.", ge=1,
        le=604_800,
    )  # fmt: skip
    port: int = free(8470, help="TCP port on which worker 0's agent lets workers gather.",
                     ge=1, le=65535)  # fmt: skip
    port_range: str = free(
        "20000-20999", help="TCP ports, one of which each worker's TensorFlow listens on. It "
        "trusts whoever reaches them: keep others out."
    )  # fmt: skip

    @field_validator("replicas")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be 1 or more, or auto")
        return value

    @field_validator("port_range")
    @classmethod
    def _is_range(cls, value: str) -> str:
        match = _RANGE.fullmatch(value)
        if match is None or not 1024 <= int(match[1]) <= int(match[2]) <= 65535:
            raise ValueError("must be FIRST-LAST, as 20000-20999, of ports from 1024 to 65535")
        return value

    @property
    def ports(self) -> range:
        """Those of port_range."""
        first, _, last = self.port_range.partition("-")
        return range(int(first), int(last) + 1)
