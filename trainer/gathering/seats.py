"""The members that the leader knows, one seat an index."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from trainer.errors import TrainerError
from trainer.gathering.messages import Offer, OfLeader, Refused, encode, shorten

_MOST_TOLD = 3


class Peer(Protocol):
    """A member's connection."""

    def send(self, payload: bytes) -> None:
        """Tell it something."""

    def refuse(self, payload: bytes) -> None:
        """Tell it a last thing; nothing more will be heard of it."""


@dataclass
class Seat:
    """A member, whether it waits for the next generation, and the step that its worker told."""

    peer: Peer
    offer: Offer
    is_waiting: bool = True
    step: int | None = None


class Seats(dict[int, Seat]):
    """By index."""

    @property
    def waiting(self) -> tuple[int, ...]:
        """Who waits, ascending."""
        return tuple(sorted(index for index, seat in self.items() if seat.is_waiting))

    def index_of(self, peer: Peer) -> int | None:
        """Where this very connection sits."""
        return next((index for index, seat in self.items() if seat.peer is peer), None)

    def tell(self, indices: Iterable[int], message: OfLeader) -> None:
        """Send `message` to those of `indices` who are there."""
        payload = encode(message)
        for index in indices:
            if index in self:
                self[index].peer.send(payload)


@dataclass
class Refusals:
    """Why those who tried were not let in: the last reason of each member, and of anybody else."""

    _members: dict[int, str] = field(default_factory=dict)
    _stranger: str | None = None

    def of_member(self, index: int, reason: str) -> None:
        """Somebody who knows the secret."""
        self._members[index] = reason

    def of_stranger(self, reason: str) -> None:
        """Somebody who does not; there may be many."""
        self._stranger = reason

    def forget(self, index: int) -> None:
        """It was let in."""
        self._members.pop(index, None)

    @property
    def text(self) -> str:
        """To be added to a sentence about who is missing."""
        members = [self._members[index] for index in sorted(self._members)[:_MOST_TOLD]]
        strangers = [] if self._stranger is None else [self._stranger]
        return "".join(f"; refused: {reason}" for reason in members + strangers)


def refuse(peer: Peer, error: TrainerError) -> str:
    """Send a member away with the error that it ends with; returns its text."""
    text = shorten(str(error))
    peer.refuse(encode(Refused(code=error.exit_code, message=text)))
    return text
