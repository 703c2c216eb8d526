"""The run's lease as an agent holds it, for all lives of its workers."""

import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from trainer.agent.time_line import TimeLine
from trainer.checkpoint.holder import this_holder
from trainer.checkpoint.lease import Lease, Timing, acquire
from trainer.checkpoint.names import CHECKPOINTS, SUMMARY_FILE, parse_folder
from trainer.errors import ObjectNotFoundError
from trainer.storage import Storage


class Held(Protocol):
    """What a worker may ask of the run's lease; see `trainer.link.AgentLease`."""

    def hold(self, above: int) -> dict[str, Any]: ...
    def refresh(self) -> dict[str, Any]: ...
    def restored(self, fence: int, step: int) -> dict[str, Any]: ...
    def check(self) -> None: ...


class Holding:
    """Acquired when the first worker asks, refreshed by a thread, released by `close`.

    Methods wait for the store. They raise RunHeldError when another job has the run, and
    StorageError. Each hold begins a life in the time line.
    """

    def __init__(self, storage: Storage, seconds: float, log: Any, line: TimeLine) -> None:
        self._storage = storage
        self._line = line
        self._timing = Timing(seconds, grace=seconds)
        self._log = log
        self._closing = ExitStack()
        self._lock = threading.Lock()
        self.lease: Lease | None = None

    def hold(self, above: int) -> dict[str, Any]:
        """A fence of its own for each worker, higher than `above` at first; what to answer it."""
        waited: list[str] = []

        def on_wait(reason: str) -> None:
            waited.append(reason)
            self._log.warning("waiting for the run", reason=reason)

        with self._lock:
            if self.lease is None:
                self.lease = acquire(
                    self._storage, this_holder(), self._timing, above=above, on_wait=on_wait
                )
                self._closing.enter_context(self.lease.kept(self._timing))
                self._line.goes_on(self._storage, waited=bool(waited))
            else:
                self.lease.raise_fence()
            self._line.begin(self.lease.fence)
        return {
            "fence": self.lease.fence,
            "limits": _as_json(self.lease.limits),
            "waited": waited[0] if waited else None,
            "reached": self._line.reached,
        }

    def is_complete(self) -> bool:
        """Whether the run was complete once; it may have more to train since."""
        try:
            self._storage.stat(SUMMARY_FILE)
        except ObjectNotFoundError:
            return False
        return True

    def hold_for_group(self) -> dict[str, Any]:
        """The same before any worker is there to say which fences there are."""
        names = {entry.path.split("/")[1] for entry in self._storage.list(CHECKPOINTS)}
        return self.hold(max((key[1] for name in names if (key := parse_folder(name))), default=0))

    def refresh(self) -> dict[str, Any]:
        """Ask the store whether the run is still held."""
        self._held().refresh()
        return {}

    def restored(self, fence: int, step: int) -> dict[str, Any]:
        """Record what the present fence goes on from."""
        self._held().restored(fence, step)
        return {"limits": _as_json(self._held().limits)}

    def check(self) -> None:
        """RunHeldError when another job is known to have taken the run over."""
        if self.lease is not None:
            self.lease.check()

    def close(self) -> None:
        """Give the run back, if it was held."""
        self._closing.close()

    def _held(self) -> Lease:
        if self.lease is None:
            raise RuntimeError("a worker that does not hold the run asked for its lease")
        return self.lease


def _as_json(limits: dict[int, int]) -> dict[str, int]:
    return {str(fence): step for fence, step in limits.items()}


@dataclass(frozen=True)
class HeldForGroup:
    """The run as agent 0 took hold of it for one generation; `holding` is there at agent 0."""

    answer: dict[str, Any]
    holding: Holding | None

    def hold(self, above: int) -> dict[str, Any]:  # noqa: ARG002
        """As it was answered before the generation began."""
        return self.answer

    def refresh(self) -> dict[str, Any]:
        """Ask the store, if the run is held here."""
        return self.holding.refresh() if self.holding is not None else {}

    def restored(self, fence: int, step: int) -> dict[str, Any]:
        """Record what the generation goes on from, if the run is held here."""
        return self.holding.restored(fence, step) if self.holding is not None else self.answer

    def check(self) -> None:
        """RunHeldError when the run was held here, and another job has taken it over."""
        if self.holding is not None:
            self.holding.check()
