"""Who is there, and which generation runs: the leader's rules, without a network.

Every call is something that happened (a member joined, was lost, its worker failed, time is up);
the answer is what each member is told. Nothing here waits: `deadline` says, on the given clock,
when `expire()` is due.

A generation begins when all indices wait, or, when that takes too long, with the largest allowed
number of them; after a smaller one, nobody waits for more than it had. It ends when one of its
members is lost or fails (all are told `broken`), when all its workers have stopped at the agreed
step, or with the run itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer.errors import ConfigError, GatheringError, TrainerError
from trainer.gathering.messages import (
    AskStop,
    Broken,
    Ended,
    Failed,
    Leave,
    Offer,
    OfMember,
    Plan,
    Progress,
    Stop,
    Stopped,
    WorkerEnded,
    encode,
    shorten,
)
from trainer.gathering.offers import find_difference, is_older
from trainer.gathering.rules import Phase, Rules, Snapshot
from trainer.gathering.seats import Peer, Refusals, Seat, Seats, refuse
from trainer.gathering.timings import Timings


@dataclass
class _Generation:
    """`running` are those of `indices` whose workers have not ended."""

    number: int
    indices: tuple[int, ...]
    phase: Phase = "choosing"
    running: set[int] = field(default_factory=set)


class Group:
    """One run's members.

    `begin(number, indices)` is called when a generation is to begin: answer it, then or later,
    with `chosen()` or `fail()`. `leader` names this life of the leader; `clock` gives seconds.
    """

    def __init__(
        self, own: Offer, *, leader: str, rules: Rules, timings: Timings,
        begin: Callable[[int, tuple[int, ...]], None], clock: Callable[[], float],
    ) -> None:  # fmt: skip
        # As it would arrive, so that both sides of a comparison went the same way.
        self._own = Offer.model_validate_json(own.model_dump_json())
        self._leader, self._rules, self._timings = leader, rules, timings
        self._begin, self._clock = begin, clock
        self._seats = Seats()
        self._newest: dict[int, Offer] = {}
        self.refusals = Refusals()
        self._number = 0
        self._size: int | None = None  # of the last generation
        self._generation: _Generation | None = None
        self._ended: Ended | None = None
        self.deadline: float | None = None

    def join(self, peer: Peer, offer: Offer) -> str | None:
        """A member waits for a generation; returns why it was refused, if it was."""
        problem = find_difference(self._own, offer)
        if problem is not None:
            self.lost(peer, "it came back with another configuration")
            self.refusals.of_member(min(offer.index, self._own.num_workers), problem)
            return refuse(peer, ConfigError(problem))
        newest = self._newest.get(offer.index, offer)
        if is_older(offer, newest):
            self.lost(peer, "it was replaced")
            return refuse(peer, _replaced(newest))
        self._newest[offer.index] = offer
        self.refusals.forget(offer.index)
        self._free_seat(offer, peer)
        self._seats[offer.index] = Seat(peer, offer, is_waiting=self._ended is None)
        if self._ended is not None:
            self._seats.tell((offer.index,), self._ended)
        else:
            self._gather()
        return None

    def hear(self, peer: Peer, message: OfMember) -> None:
        """What a member that has joined says, except `join` and `pong`."""
        index = self._seats.index_of(peer)
        if index is None or self._ended is not None:
            return
        match message:
            case WorkerEnded():
                self._end(Ended(index=index, code=message.code, message=message.message))
            case Leave():
                self.lost(peer, "it left")
            case Progress(step=step):
                self._seats[index].step = step
            case _:
                generation = self._generation
                if generation is not None and index in generation.running:
                    self._hear_of_running(generation, index, message)

    def lost(self, peer: Peer, reason: str) -> None:
        """A member's connection is gone, or the member itself."""
        index = self._seats.index_of(peer)
        if index is not None:
            del self._seats[index]
            self._is_gone(index, reason)
            self._gather_on()

    def chosen(self, number: int, chosen: Mapping[str, Any]) -> None:
        """All that generation `number` waited for is known: it begins, unless it is over.

        Raises ValueError for what is not JSON, and `ConfigError` for what is too long.
        """
        generation = self._chooses(number)
        if generation is None:
            return
        indices = generation.indices
        plan = Plan(
            leader=self._leader, generation=number, indices=indices,
            addresses=tuple(self._seats[index].offer.address for index in indices),
            chosen=dict(chosen),
        )  # fmt: skip
        encode(plan)
        generation.phase, generation.running = "running", set(indices)
        for index in indices:
            self._seats[index].is_waiting, self._seats[index].step = False, None
        self._seats.tell(indices, plan)

    def fail(self, number: int, error: TrainerError) -> None:
        """Generation `number` cannot begin: every member ends with this error."""
        if self._chooses(number) is not None:
            self.refuse_all(error)

    def expire(self) -> None:
        """The deadline has passed."""
        self.deadline = None
        generation, waiting = self._generation, self._seats.waiting
        size = self._rules.choose_size(len(waiting), self._own.num_workers)
        if generation is not None:
            late = f"it did not stop within {self._timings.stop:g} s of the others"
            self._break(generation, min(generation.running), late)
        elif size is not None and 0 in waiting:
            self._choose(waiting[:size])
        else:
            what = f"generation {self._number + 1} within {self._timings.wait:g} s"
            text = self._rules.describe_missing(waiting, self._own.num_workers, what)
            self.refuse_all(GatheringError(text + self.refusals.text))

    def refuse_all(self, error: TrainerError) -> None:
        """Every member ends with this error."""
        self._generation, self.deadline = None, None
        seats = list(self._seats.values())
        self._seats.clear()
        for seat in seats:
            refuse(seat.peer, error)

    @property
    def outside(self) -> tuple[int, ...]:
        """Who waits, but was not there when the running generation began."""
        if self._generation is None:
            return ()
        inside = set(self._generation.indices)
        return tuple(index for index in self._seats.waiting if index not in inside)

    @property
    def can_grow(self) -> bool:
        """Whether the running generation could have more workers, those outside with it."""
        if self._generation is None:
            return False
        inside = len(self._generation.indices)
        size = self._rules.choose_size(inside + len(self.outside), self._own.num_workers)
        return size is not None and size > inside

    def snapshot(self) -> Snapshot:
        """Who is there now."""
        generation = self._generation
        phase = generation.phase if generation is not None else "gathering"
        running = tuple(sorted(generation.running)) if generation is not None else ()
        steps = [step for i in running if (step := self._seats[i].step) is not None]
        return Snapshot(
            phase="ended" if self._ended is not None else phase,
            generation=self._number, num_workers=self._own.num_workers,
            present=tuple(sorted(self._seats)), waiting=self._seats.waiting,
            running=running, outside=self.outside,
            min_step=min(steps, default=None), max_step=max(steps, default=None),
        )  # fmt: skip

    def _hear_of_running(self, generation: _Generation, index: int, message: OfMember) -> None:
        match message:
            case AskStop():
                self._seats.tell(generation.indices, Stop(index=index))
            case Failed(generation=generation.number, reason=reason):
                self._break(generation, index, reason, failed=True)
            case Stopped(generation=generation.number):
                generation.running.discard(index)
                if not generation.running:
                    self._over()
                elif generation.phase == "running":
                    generation.phase = "stopping"
                    self.deadline = self._clock() + self._timings.stop

    def _gather(self) -> None:
        """Begin a generation if all are there, or no fewer than the one before had.

        Else see that there is a deadline.
        """
        if self._generation is not None:
            return
        waiting, num_workers = self._seats.waiting, self._own.num_workers
        size = self._rules.choose_size(len(waiting), num_workers)
        is_enough = 0 in waiting and size is not None and size >= (self._size or num_workers)
        if is_enough and len(waiting) == len(self._seats):
            self._choose(waiting[:size])
        elif self.deadline is None:
            self.deadline = self._clock() + self._timings.wait

    def _gather_on(self) -> None:
        """Those who are left may be enough, now that nobody is to be waited for."""
        if self._seats.waiting and self._ended is None:
            self._gather()

    def _choose(self, indices: tuple[int, ...]) -> None:
        self.deadline = None
        self._number += 1
        self._size = len(indices)
        self._generation = _Generation(self._number, indices)
        self._begin(self._number, indices)

    def _chooses(self, number: int) -> _Generation | None:
        generation = self._generation
        is_it = generation is not None and (generation.number, generation.phase) == (
            number, "choosing",
        )  # fmt: skip
        return generation if is_it else None

    def _free_seat(self, offer: Offer, peer: Peer) -> None:
        """For `peer`: the one that sits there, or comes anew, or replaces it."""
        seat = self._seats.pop(offer.index, None)
        if seat is None:
            return
        if seat.peer is not peer:
            refuse(seat.peer, _replaced(offer))
        is_new = seat.offer.pod != offer.pod
        self._is_gone(offer.index, "it was replaced" if is_new else "it joined again")

    def _is_gone(self, index: int, reason: str) -> None:
        generation = self._generation
        if generation is None:
            return
        if index in generation.running:
            self._break(generation, index, reason)
        elif generation.phase == "choosing" and index in generation.indices:
            self._over()

    def _break(
        self, generation: _Generation, index: int, reason: str, *, failed: bool = False
    ) -> None:
        text = shorten(f"worker {index}: {reason}")
        told = Broken(generation=generation.number, reason=text, index=index, failed=failed)
        self._seats.tell(sorted(generation.running), told)
        self._over()

    def _over(self) -> None:
        """No generation runs: those who are there gather anew, with all the time there is."""
        self._generation, self.deadline = None, None
        self._gather()

    def _end(self, ended: Ended) -> None:
        self._ended = ended
        self._generation, self.deadline = None, None
        for seat in self._seats.values():
            seat.is_waiting = False
        self._seats.tell(self._seats, ended)


def _replaced(newest: Offer) -> GatheringError:
    return GatheringError(
        f"worker {newest.index} was replaced by its newer incarnation {newest.pod}: this one ends"
    )
