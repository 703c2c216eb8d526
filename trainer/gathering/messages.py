"""What agents say to each other while they gather, and while a generation runs.

One JSON object a message, by its `type`; unknown types and keys are refused, and every text is
bounded. A member speaks the first list, the leader the second. How messages are sealed and
carried is the business of `seal` and `connection`.
"""

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

from trainer.cluster import MOST_WORKERS
from trainer.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    GatheringError,
    NonFiniteError,
    NoProgressError,
    RunHeldError,
    TrainerError,
)
from trainer.gathering.seal import TAG_BYTES

# A member's longest message is its offer with the whole configuration, the leader's is a plan
# with every address (60 bytes each).
MAX_BYTES_OF_MEMBER = 64 * 1024
MAX_BYTES_OF_LEADER = 1024 * 1024
MAX_TEXT = 2000

Name = Annotated[str, Field(min_length=1, max_length=300)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Index = Annotated[int, Field(ge=0, lt=MOST_WORKERS)]
# What every agent ends with when one worker or agent 0 does: 0 and `ENDS_RUN`.
EndCode = Literal[0, 2, 3, 4, 5, 6, 7]
_CODES = {
    kind.exit_code: kind
    for kind in (
        TrainerError, ConfigError, DataError, NonFiniteError, CheckpointError, RunHeldError,
        NoProgressError, GatheringError,
    )
}  # fmt: skip


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Offer(_Strict):
    """What a member brings. `pod` is random, `started` the Unix time at which it began.

    `config` holds all keys but those of one pod, dotted; `address` is the host:port that its
    TensorFlow worker will use.
    """

    index: Index
    num_workers: Annotated[int, Field(ge=1, le=MOST_WORKERS)]
    pod: Name
    started: float
    run: Name
    job: Name
    code_version: Name
    config: dict[str, JsonValue]
    address: Annotated[str, Field(pattern=r"^\S+:\d{1,5}$", max_length=300)]


class Join(_Strict):
    """The member waits for the next generation."""

    type: Literal["join"] = "join"
    offer: Offer


class Pong(_Strict):
    """The member reads what the leader sends, and lives."""

    type: Literal["pong"] = "pong"


class Failed(_Strict):
    """The member's worker died, or cannot start; the others' have to be killed."""

    type: Literal["failed"] = "failed"
    generation: int
    reason: Text


class WorkerEnded(_Strict):
    """The member's worker ended with a code that is the whole run's."""

    type: Literal["ended"] = "ended"
    code: EndCode
    message: Text


class AskStop(_Strict):
    """The member's pod was told to stop: all workers have to agree on a step and save."""

    type: Literal["stop"] = "stop"


class Stopped(_Strict):
    """The member's worker stopped at the agreed step (75)."""

    type: Literal["stopped"] = "stopped"
    generation: int


class Leave(_Strict):
    """The member goes and does not come back by itself."""

    type: Literal["leave"] = "leave"


class Progress(_Strict):
    """The step that the member's worker has reached."""

    type: Literal["progress"] = "progress"
    step: Annotated[int, Field(ge=0)]


class Ping(_Strict):
    """The leader lives, and wants a pong."""

    type: Literal["ping"] = "ping"


class Plan(_Strict):
    """A generation begins. `addresses` are in the order of `indices`, which ascend.

    `generation` grows within one life of the leader, and `leader` names that life. `chosen` is
    what was settled once for all: how the run is held.
    """

    type: Literal["plan"] = "plan"
    leader: Name
    generation: int
    indices: tuple[Index, ...]
    addresses: tuple[str, ...]
    chosen: dict[str, JsonValue]


class Broken(_Strict):
    """The generation is over because of member `index`: kill the worker, then join again.

    failed: its worker did, and not its agent or its pod.
    """

    type: Literal["broken"] = "broken"
    generation: int
    reason: Text
    index: Index
    failed: bool = False


class Ended(_Strict):
    """The run is over with `code`, as member `index` found."""

    type: Literal["ended"] = "ended"
    index: Index
    code: EndCode
    message: Text


class Stop(_Strict):
    """Member `index` was told to stop: agree on a step, save, end with 75."""

    type: Literal["stop"] = "stop"
    index: Index


class Refused(_Strict):
    """There is no place for this member, or no group: it ends with `code`. Always the last."""

    type: Literal["refused"] = "refused"
    code: int
    message: Text

    def error(self) -> TrainerError:
        """The exception that ends the member."""
        return _CODES.get(self.code, TrainerError)(self.message)


OfMember = Join | Pong | Failed | WorkerEnded | AskStop | Stopped | Leave | Progress
OfLeader = Ping | Plan | Broken | Ended | Stop | Refused

Spoken = TypeVar("Spoken")
OF_MEMBER: TypeAdapter[OfMember] = TypeAdapter(Annotated[OfMember, Field(discriminator="type")])
OF_LEADER: TypeAdapter[OfLeader] = TypeAdapter(Annotated[OfLeader, Field(discriminator="type")])


def encode(message: OfMember | OfLeader) -> bytes:
    """The message as it is sealed. Raises `ConfigError` for one that nobody would take."""
    payload = message.model_dump_json().encode()
    most = MAX_BYTES_OF_MEMBER if isinstance(message, OfMember) else MAX_BYTES_OF_LEADER
    if len(payload) > most - TAG_BYTES:
        raise ConfigError(
            f"gathering's message {message.type!r} has {len(payload)} bytes, at most"
            f" {most - TAG_BYTES} can be sent: shorten the configuration"
        )
    return payload


def shorten(text: str, size: int = MAX_TEXT) -> str:
    """`text` cut to `size` characters."""
    return text if len(text) <= size else text[: size - 1] + "…"


def name_indices(indices: list[int] | tuple[int, ...]) -> str:
    """Ascending indices as people write them: 0-3, 7."""
    spans: list[list[int]] = []
    for index in indices:
        if spans and spans[-1][1] == index - 1:
            spans[-1][1] = index
        else:
            spans.append([index, index])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans) or "none"
