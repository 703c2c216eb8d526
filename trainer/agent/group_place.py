"""Where an agent stands in its group: what it brings, and where it finds the others."""

import os
import re
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import trainer
from trainer.agent.ports import become_free, free_port
from trainer.cluster import ClusterInfo
from trainer.config import RunConfig
from trainer.config.fields import flatten
from trainer.environment import SECRET_VARIABLE
from trainer.errors import ConfigError
from trainer.gathering.messages import Offer
from trainer.gathering.rules import Rules
from trainer.gathering.seal import MIN_SECRET_BYTES
from trainer.gathering.timings import Timings

_SECRET_FILE = f"{SECRET_VARIABLE}_FILE"
_LOOPBACK = ("localhost", "127.")
# What pods of one run may have each for itself.
_OF_A_POD = ("log.", "metrics.")
_LONGEST_STOP_SECONDS = 120.0
_CHOICE_SECONDS = 600.0
_PORT_SECONDS = 10.0


@dataclass(frozen=True)
class GroupPlace:
    """One agent of a group of two workers or more.

    Raises ConfigError for workers that cannot share the data, and for a secret that is missing.
    """

    config: RunConfig
    cluster: ClusterInfo
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    pod: str = field(default_factory=lambda: f"{socket.gethostname()}-{secrets.token_hex(4)}")
    started: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        if (problem := self._problem(self.num_workers)) is not None:
            raise ConfigError(problem)
        least = self.config.cluster.min_workers
        if least is not None and least > self.num_workers:
            raise ConfigError(
                f"cluster.min_workers {least} is more than the {self.num_workers} workers there are"
            )

    @property
    def index(self) -> int:
        """This worker's number."""
        return self.cluster.worker

    @property
    def num_workers(self) -> int:
        """Of the whole group."""
        return self.cluster.num_workers

    @property
    def leads(self) -> bool:
        """Whether the others gather here."""
        return self.index == 0

    @cached_property
    def secret(self) -> bytes:
        """What all agents know."""
        text = self.environ.get(SECRET_VARIABLE)
        where = SECRET_VARIABLE
        if text is None and (file := self.environ.get(_SECRET_FILE)):
            where = f"{_SECRET_FILE} {file}"
            try:
                text = Path(file).read_text(encoding="utf-8").strip()
            except (OSError, ValueError) as error:
                raise ConfigError(f"{where} cannot be read: {error}") from error
        if text is None:
            raise ConfigError(
                f"{self.num_workers} workers need a secret to know each other by: give all of them "
                f"the same {SECRET_VARIABLE}, or {_SECRET_FILE}"
            )
        if len(text.encode()) < MIN_SECRET_BYTES:
            raise ConfigError(f"{where} is too short: use {MIN_SECRET_BYTES} characters or more")
        return text.encode()

    @property
    def host(self) -> str:
        """The leader's name; its own agent needs none."""
        return "127.0.0.1" if self.leads else self._leader[0]

    @property
    def port(self) -> int:
        """The leader's."""
        return self._leader[1]

    @property
    def listens_on(self) -> str | None:
        """Address of the leader's port; every interface unless all workers are on this machine."""
        return "127.0.0.1" if self._is_local else None

    @property
    def _is_local(self) -> bool:
        return self._leader[0].startswith(_LOOPBACK)

    @property
    def _leader(self) -> tuple[str, int]:
        host, _, port = (self.cluster.leader or "").rpartition(":")
        return (host, int(port)) if host else (port, self.config.cluster.port)

    @property
    def timings(self) -> Timings:
        """How long agents wait for each other."""
        return Timings(
            wait=self.config.cluster.wait_seconds,
            stop=max(_LONGEST_STOP_SECONDS, 2 * self.config.train.grace_seconds),
            # The leader waits for a run that another job holds.
            choose=_CHOICE_SECONDS + 3 * self.config.run.lease_seconds,
        )

    @property
    def rules(self) -> Rules:
        """With how many workers the group may go on."""
        return Rules(
            min_workers=self.config.cluster.min_workers,
            allowed=lambda workers: self._problem(workers) is None,
            host_of=self._host_of,
        )

    def _problem(self, workers: int) -> str | None:
        replicas = self.config.cluster.replicas
        each = 1 if replicas == "auto" else replicas
        return self.config.parts_problem(workers * each, workers)

    def _host_of(self, index: int) -> str | None:
        if self.cluster.addresses is not None:
            return self.cluster.addresses[index].rpartition(":")[0]
        # Pods of an Indexed Job: demo-0.demo, demo-1.demo.
        name, found = re.subn(r"-0(?=\.|$)", f"-{index}", self._leader[0], count=1)
        return name if found else None

    def offer(self) -> Offer:
        """What the agent brings to the next generation, with a port that is free now.

        May wait for a name or a port. Raises ConfigError when none is free, or not TF_CONFIG's.
        """
        if self.cluster.addresses is not None:
            address = self.cluster.addresses[self.index]
            # The last worker may not be quite gone.
            if not become_free(int(address.rpartition(":")[2]), _PORT_SECONDS):
                raise ConfigError(
                    f"worker {self.index}: its port {address} is taken by another process, or not "
                    "for this user: end that, or give TF_CONFIG another"
                )
        else:
            address = f"{self._own_host}:{self._free_port()}"
        return Offer(
            index=self.index, num_workers=self.num_workers, pod=self.pod, started=self.started,
            run=self.config.run.dir, job=self.environ.get("TRAINER_JOB_ID") or "none",
            code_version=_code_version(), config=self._compared, address=address,
        )  # fmt: skip

    @property
    def _compared(self) -> dict[str, Any]:
        keys = flatten(self.config.model_dump(mode="json"))
        return {key: value for key, value in keys.items() if not key.startswith(_OF_A_POD)}

    @cached_property
    def _own_host(self) -> str:
        if own := self.environ.get("TRAINER_HOST"):
            return own
        if self._is_local:
            return "127.0.0.1"
        try:
            # Sends nothing: it only says from which address the leader would be reached.
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
                way.connect(self._leader)
                return str(way.getsockname()[0])
        except OSError:  # the name may come later, that of this machine is there
            return socket.gethostbyname(socket.gethostname())

    def _free_port(self) -> int:
        # Each has its own, since those of one machine look for them at the same time.
        own = self.config.cluster.ports[self.index :: self.num_workers]
        if (port := free_port(own)) is None:
            raise ConfigError(
                f"worker {self.index} finds no free port in its share of cluster.port_range "
                f"{self.config.cluster.port_range}: choose another, or a larger one"
            )
        return port


def _code_version() -> str:
    """Of what computes: workers that differ would differ in their results."""
    found = [f"trainer {trainer.__version__}"]
    for name in ("tensorflow", "tensorflow-cpu", "keras"):
        try:
            found.append(f"{name.partition('-')[0]} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
