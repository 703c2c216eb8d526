"""What the leader is told about its group, and what it tells about it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from trainer.gathering.messages import name_indices

Phase = Literal["gathering", "choosing", "running", "stopping", "ended"]


@dataclass(frozen=True)
class Rules:
    """When fewer than all workers will do, and whom to tell.

    After the wait for all, the largest `allowed` number of workers begins, if it is `min_workers`
    at least and worker 0 is there; None waits for all. `host_of` names a worker's pod in errors.
    No function may raise or wait.
    """

    min_workers: int | None = None
    allowed: Callable[[int], bool] = lambda _: True
    host_of: Callable[[int], str | None] = lambda _: None

    def choose_size(self, there: int, num_workers: int) -> int | None:
        """The largest number of workers that may begin when `there` wait; None if none may."""
        least = self.min_workers or num_workers
        return next((size for size in range(there, least - 1, -1) if self.allowed(size)), None)

    def describe_missing(self, waiting: tuple[int, ...], num_workers: int, what: str) -> str:
        """That the others did not join `what` ("generation 3 within 120 s")."""
        missing = [index for index in range(num_workers) if index not in waiting]
        hosts = [host for index in missing[:3] if (host := self.host_of(index))]
        pods = f"pod {', '.join(hosts)}" if hosts else "their pods"
        has_enough = self.min_workers and 0 in waiting and len(waiting) >= self.min_workers
        have = f"have {name_indices(waiting)}"
        have += ", which is no allowed number" if has_enough else ""
        return (
            f"worker{'s' if len(missing) > 1 else ''} {name_indices(missing)} did not join {what} "
            f"({have}): check {pods}, and that"
            f" the leader {self.host_of(0) or 'worker 0'} can be reached from there"
        )


@dataclass(frozen=True)
class Snapshot:
    """For a status page. `generation` is the running one, or the last; `outside` waits for it.

    Steps are the least and the greatest that workers of the running generation told.
    """

    phase: Phase
    generation: int
    num_workers: int
    present: tuple[int, ...]
    waiting: tuple[int, ...]
    running: tuple[int, ...]
    outside: tuple[int, ...]
    min_step: int | None
    max_step: int | None
