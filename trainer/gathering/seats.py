"""The members that the leader knows, one seat an index."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from trainer.errors import TrainerError
from trainer.gathering.messages import Offer, OfLeader, Refused, encode, shorten


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


def refuse(peer: Peer, error: TrainerError) -> str:
    """Send a member away with the error that it ends with; returns its text."""
    text = shorten(str(error))
    peer.refuse(encode(Refused(code=error.exit_code, message=text)))
    return text
