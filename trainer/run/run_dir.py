"""The folder of one run: its configuration, and who may go on with it. No TensorFlow.

What lies in it: docs/architecture.md, "Where things live".
"""

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

from trainer.agreement import Agreement
from trainer.checkpoint.holder import this_holder
from trainer.checkpoint.lease import Timing, acquire, limits
from trainer.checkpoint.names import CHECKPOINTS, SUMMARY_FILE
from trainer.checkpoint.restore import Restored, choose, newest
from trainer.checkpoint.store import Checkpoint, CheckpointStore
from trainer.config import RunConfig, Section, check_same_run, dump, parse_yaml, validate
from trainer.errors import (
    CheckpointError,
    ConfigError,
    DeviceError,
    LockedError,
    ObjectNotFoundError,
    StorageError,
    TrainerError,
)
from trainer.run.curve_store import RunCurves
from trainer.run.documents import Documents
from trainer.run.events import RunEvents
from trainer.storage import Storage, is_remote, open_storage

CONFIG_FILE = "config.yaml"
RUN_FILE = "run.json"
MODEL = "model"
PICTURES = "pictures"
PROFILES = "plugins/profile"
BOARD = "tensorboard"
_MOST_STEPS = 1 << 53

_log = logging.getLogger(__name__)


class HeldLease(Protocol):
    """A lease that this process holds, or its agent does."""

    fence: int
    limits: dict[int, int]

    def check(self) -> None: ...
    def refresh(self) -> None: ...
    def restored(self, fence: int, step: int) -> None: ...


@dataclass(frozen=True)
class RunDir:
    """One run's folder, by URL; `lease` is there while this process may write to it."""

    url: str
    open: Callable[[str], Storage] = open_storage
    clock: Callable[[], float] = time.time
    lease: HeldLease | None = None
    writes: bool = True  # not beside the chief of a group

    @cached_property
    def storage(self) -> Storage:
        """The folder itself."""
        return self.open(self.url)

    @property
    def _documents(self) -> Documents:
        return Documents(self.storage, self.url)

    @cached_property
    def checkpoints(self) -> CheckpointStore:
        """The run's checkpoints."""
        storage = self._open_inside(CHECKPOINTS)
        lease = self.lease
        return CheckpointStore(
            storage,
            fence=lease.fence if lease else 0,
            limits=lease.limits if lease else limits(self.storage),
            clock=self.clock,
            on_commit=self._remember_checkpoint,
        )

    @property
    def id(self) -> str:
        """16 hex digits that it keeps from its first checkpoint on; "" before it was begun."""
        return str((self._record() or {}).get("id", ""))

    @contextmanager
    def held(self, lease_seconds: float, on_wait: Callable[[str], None]) -> Iterator["RunDir"]:
        """The run, held by this process while the context lasts; see `trainer.checkpoint.lease`.

        Raises RunHeldError when another job keeps it, ConfigError when the folder cannot be
        written.
        """
        timing = Timing(lease_seconds, grace=lease_seconds)
        try:
            lease = acquire(
                self.storage, this_holder(), timing, above=self.highest_fence(), on_wait=on_wait
            )
        except StorageError as error:
            raise self.refused(error) from error
        with lease.kept(timing):
            yield replace(self, lease=lease)

    def highest_fence(self) -> int:
        """Of all checkpoints: a lease that was deleted must not let older ones look newer."""
        return max((found.fence for found in self.checkpoints.all()), default=0)

    def check_held(self) -> None:
        """RunHeldError when another job is known to have taken the run over."""
        if self.lease is not None:
            self.lease.check()

    def refresh_lease(self) -> None:
        """RunHeldError when another job has taken the run over; asks the store."""
        if self.lease is not None:
            self.lease.refresh()

    @cached_property
    def events(self) -> RunEvents:
        """The events of this life."""
        storage = self.storage if self.writes else None
        return RunEvents(storage, self._number, clock=self.clock)

    @property
    def _number(self) -> int:
        """Of this life of the run."""
        return self.lease.fence if self.lease else 0

    @cached_property
    def curves(self) -> RunCurves:
        """The curves of this life."""
        return RunCurves(self.storage if self.writes else None, self._number)

    @property
    def model(self) -> Storage:
        """Where exported files go."""
        return self._open_inside(MODEL)

    def _open_inside(self, folder: str) -> Storage:
        return self.open(f"{self.url.rstrip('/')}/{folder}")

    def config(self) -> RunConfig:
        """The configuration that the run was last started with.

        Raises ConfigError when there is no run here, CheckpointError when its file is damaged.
        """
        try:
            text = self._documents.read_bytes(CONFIG_FILE).decode()
        except ObjectNotFoundError:
            raise ConfigError(f"no run in {self.url}: there is no {CONFIG_FILE}") from None
        except UnicodeDecodeError:
            raise self._documents.damaged(CONFIG_FILE, "not UTF-8 text") from None
        try:
            return validate(RunConfig, parse_yaml(text, CONFIG_FILE), source=CONFIG_FILE)
        except ConfigError as error:
            raise self._documents.damaged(CONFIG_FILE, str(error)) from error

    def check_exists(self) -> None:
        """ConfigError when there is no run here, not even a damaged one."""
        files = (CONFIG_FILE, RUN_FILE, SUMMARY_FILE)
        if not any(self._documents.has(file) for file in files) and not self.checkpoints.all():
            raise ConfigError(f"no run in {self.url}: there is no {CONFIG_FILE}")

    def admit(
        self, config: RunConfig, params: type[Section], data_hash: str, allowed: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Let a start go on with this run, or begin it; returns the changes allowed to it.

        Raises like `check`, and ConfigError when the folder cannot be written.
        """
        changes = self.check(config, params, data_hash, allowed)
        if not self.writes:
            return changes
        record = self._record() or {"format": 1, "created": self.clock(), "changes": []}
        is_same = record.get("data_sha256") == data_hash and self._was_started_with(config)
        if changes:
            record["changes"].append({"time": self.clock(), "keys": changes})
        if self._had_checkpoint():
            record["has_checkpoint"] = True
        elif not is_same:
            # Another training, of which services that know runs by their ids are to know nothing.
            record.pop("id", None)
        record.setdefault("id", secrets.token_hex(8))
        self._write_start(config, record | {"data_sha256": data_hash})
        return changes

    def check(
        self, config: RunConfig, params: type[Section], data_hash: str, allowed: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Whether a start may go on with this run; returns the changes allowed to it.

        Raises:
            CheckpointError: the run was started with another identity (a diff is in the text),
                or the folder holds checkpoints of no known configuration.
        """
        record = self._record()
        if record is None:
            if self._is_committed():
                raise CheckpointError(
                    f"{self.url} holds checkpoints but no {RUN_FILE}: they are of an unknown "
                    "configuration; use another run.dir"
                )
            return {}
        if not self._had_checkpoint():
            # Nothing was kept that another configuration could spoil.
            return {}
        if not self._documents.has(CONFIG_FILE):
            raise self._documents.damaged(CONFIG_FILE, "missing")
        changes = check_same_run(self.config(), config, params, allowed)
        self.check_data(config, data_hash)
        return changes

    def check_data(self, config: RunConfig, data_hash: str) -> None:
        """CheckpointError unless the run was started with data of this content."""
        record = self._record()
        if record is None:
            raise self._documents.damaged(RUN_FILE, "missing")
        if record["data_sha256"] != data_hash:
            raise CheckpointError(
                f"run {self.url} was started with other data: content {record['data_sha256'][:12]}"
                f" then, {data_hash[:12]} in {config.data.url} now: give it back its data, or "
                "use another run.dir"
            )

    def check_goes_on(self, *, start_over: bool) -> None:
        """Whether training could go on here; nothing is written.

        Raises ConfigError when the folder cannot be written, and CheckpointError when the run had
        checkpoints and has none, unless `start_over`.
        """
        with self._writing():
            self.storage.check_writable(RUN_FILE)
            self.checkpoints.check_writable()
        if self._had_checkpoint() and not self._is_committed() and not start_over:
            raise CheckpointError(
                f"run {self.url} had checkpoints, and there is none with a COMMIT marker now: "
                "restore them from a copy, use another run.dir, or set checkpoint.start_over=true"
            )

    def _had_checkpoint(self) -> bool:
        record = self._record() or {}
        return "has_checkpoint" in record or self._has_ended() or self._is_committed()

    def _was_started_with(self, config: RunConfig) -> bool:
        try:
            return self._documents.read_bytes(CONFIG_FILE) == dump(config).encode()
        except ObjectNotFoundError:
            return False

    def _has_ended(self) -> bool:
        """Whether it was complete once, after a step at least; a script may train nothing."""
        if not self._documents.has(SUMMARY_FILE):
            return False
        summary = self.summary()
        return summary is None or summary["steps"] > 0

    def _is_committed(self) -> bool:
        return any(found.committed for found in self.checkpoints.all())

    def _remember_checkpoint(self) -> None:
        """From the first commit on, so that a run never starts at 0 because all are gone.

        After it and not before: a run that was killed in its first save had none.
        """
        record = self._record()
        if record is not None and "has_checkpoint" not in record:
            # Whoever lost the run has committed nothing that counts.
            self.refresh_lease()
            self._documents.write(RUN_FILE, record | {"has_checkpoint": True})

    def _write_start(self, config: RunConfig, record: dict[str, Any]) -> None:
        with self._writing():
            # The record first, so that no allowed change goes unrecorded.
            self._documents.write(RUN_FILE, record)
            self.storage.write(CONFIG_FILE, dump(config).encode())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            raise self.refused(error) from error

    def refused(self, error: StorageError) -> TrainerError:
        """A folder that refuses is the wrong one; a store, a lock or a disk may answer again."""
        if is_remote(self.url) or isinstance(error, LockedError | DeviceError):
            return error
        return ConfigError(f"run.dir {self.url} cannot be written: {error}")

    def _record(self) -> dict[str, Any] | None:
        record = self._documents.read(RUN_FILE, data_sha256=str, changes=list)
        if record is None:
            return None
        if record.get("format") != 1:
            raise CheckpointError(
                f"{RUN_FILE} in {self.url} has format {record.get('format')}, this version reads "
                "1: use the trainer that wrote it, or another run.dir"
            )
        return record

    def summary(self) -> dict[str, Any] | None:
        """What a complete run reports; None while it is not complete."""
        try:
            return self.read_summary()
        except CheckpointError as error:
            # The checkpoints are all that it takes to make it again.
            _log.warning("%s; the report is made again", str(error).partition(": restore")[0])
            return None

    def read_summary(self) -> dict[str, Any] | None:
        """The same. Raises CheckpointError when it is damaged."""
        summary = self._documents.read(SUMMARY_FILE, complete=bool, epochs=int, steps=int)
        if summary is None:
            return None
        if not summary["complete"]:
            raise self._documents.damaged(SUMMARY_FILE, "it is of a run that is not complete")
        for name in ("epochs", "steps"):
            if isinstance(summary[name], bool) or not 0 <= summary[name] <= _MOST_STEPS:
                raise self._documents.damaged(SUMMARY_FILE, f"no number of {name}")
        return summary

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Mark the run as complete. Raises RunHeldError when another job has taken it over."""
        self.refresh_lease()
        if self.writes:
            self._documents.write(SUMMARY_FILE, summary)

    def reopen(self) -> None:
        """Take the mark of completion back: training goes on."""
        if self.writes:
            self.refresh_lease()
            self.storage.delete(SUMMARY_FILE)

    def restore(self, *, start_over: bool = False, agreement: Agreement | None = None) -> Restored:
        """The checkpoint to go on from; see `trainer.checkpoint.restore.newest`."""
        restored = newest(self.checkpoints, start_over=start_over, agreement=agreement)
        if self.lease is not None:
            found = restored.checkpoint and restored.checkpoint.manifest
            self.lease.restored(*((found.fence, found.step) if found else (0, -1)))
        return restored

    def checkpoint(self, which: str) -> Checkpoint:
        """The checkpoint of a step's number, `last` or `best`.

        Raises ConfigError when there is none such, CheckpointError when it is damaged.
        """
        return choose(self.checkpoints, which, self.config().checkpoint, self.url)


def checkpoint_of_origin(origin: str, open: Callable[[str], Storage]) -> Checkpoint:
    """The checkpoint that `train.start_from` names: RUN_DIR, or RUN_DIR@ and a step, last or best.

    Raises ConfigError when there is none such, CheckpointError when it is damaged.
    """
    url, at, step = origin.rpartition("@")
    return RunDir(url, open).checkpoint(step) if at else RunDir(origin, open).checkpoint("last")
