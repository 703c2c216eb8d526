"""What the logs of all agents and workers say about a run: how far it is, how it recovered.

A generation begins with `restore` of worker 0 and its steps with `first step`; `worker restarts`
is an agent that knows of the end of one, `worker starts` one that has gathered.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from trainer.chaos.agents import Event

_MADE = ("first step", "progress", "epoch", "checkpoint")
_REACHED = (*_MADE, "worker restarts", "stopping")
_STAGES = ("final save", "report", "summary")
_KNOWN = ("worker restarts", "stopping")
_RECOVERY = ("worker starts", *_KNOWN, "restore", "first step", "agent ended")


@dataclass
class Generation:
    """What worker 0 did from one restore on; times are Unix times."""

    restored: int
    reached: int
    first_step: float | None = None
    last_step: float | None = None

    @property
    def seconds(self) -> float:
        """From the first to the last step that is known of."""
        if self.first_step is None or self.last_step is None:
            return 0.0
        return self.last_step - self.first_step


@dataclass(frozen=True)
class Recovery:
    """Seconds from a signal until the last agent knew of it, the last one had gathered, the last
    worker had restored, and worker 0 had made a step; None where the next fault came before that.
    """

    detected: float | None = None
    gathered: float | None = None
    restored: float | None = None
    first_step: float | None = None


@dataclass
class Story:
    """A run so far. `pids` are the workers' by index, `step` the highest one, of `target`.

    events: all but `progress`, as they were read.
    """

    step: int = 0
    target: int | None = None
    pids: dict[int, int] = field(default_factory=dict)
    generations: list[Generation] = field(default_factory=list)
    restored_at: float = 0.0
    advanced_at: float = 0.0
    stages: int = 0
    events: list[Event] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Take note of it."""
        step = event.fields.get("step")
        if event.name != "progress":
            self.events.append(event)
        if event.name == "worker starts":
            self.pids[event.index] = event.fields["pid"]
        elif event.index == 0 and event.name in ("restore", "train", *_STAGES):
            self._add_stage(event)
        elif event.name in _REACHED and isinstance(step, int):
            self._add_step(event, step)

    def _add_stage(self, event: Event) -> None:
        if event.name == "restore":
            step = event.fields["step"]
            self.generations.append(Generation(step, step))
            self.restored_at = event.time
        elif event.name == "train":
            self.target = event.fields["target_step"]
        else:
            self.stages += 1

    def _add_step(self, event: Event, step: int) -> None:
        is_made = event.name in _MADE and event.index == 0
        if is_made and step > self.step:
            self.advanced_at = event.time
        self.step = max(self.step, step)
        if not self.generations:
            return
        generation = self.generations[-1]
        generation.reached = max(generation.reached, step)
        if is_made:
            generation.last_step = event.time
        if is_made and event.name == "first step":
            generation.first_step = event.time

    @property
    def share(self) -> float:
        """Of the steps from the one that this training began at."""
        if self.target is None:
            return 0.0
        start = self.generations[0].restored if self.generations else 0
        return max(0.0, self.step - start) / max(1, self.target - start)

    @property
    def redone(self) -> list[int]:
        """How many steps each generation but the first made that one before had made."""
        pairs = zip(self.generations, self.generations[1:], strict=False)
        return [max(0, before.reached - after.restored) for before, after in pairs]

    @property
    def productive_seconds(self) -> float:
        """In which steps were made that did not have to be made again."""
        ends = [after.restored for after in self.generations[1:]]
        seconds = 0.0
        for generation, end in zip(self.generations, [*ends, self.step], strict=True):
            made = generation.reached - generation.restored
            kept = min(generation.reached, end) - generation.restored
            seconds += generation.seconds * max(0, kept) / made if made else 0.0
        return seconds

    def recoveries(self, signals: Sequence[float]) -> list[Recovery]:
        """What followed each of these moments, which ascend."""
        found = (event for event in self.events if event.name in _RECOVERY)
        events = sorted(found, key=lambda event: event.time)
        times = [event.time for event in events]
        ends = [bisect_right(times, at) for at in (*signals[1:], float("inf"))]
        return [
            _recovery(at, events[bisect_right(times, at) : end])
            for at, end in zip(signals, ends, strict=True)
        ]


def _recovery(signal: float, events: Sequence[Event]) -> Recovery:
    """From the events up to the next fault; none where that came first, or no worker began."""
    ended = next((at for at, event in enumerate(events) if _is_first_step(event, events, at)), None)
    before = events if ended is None else events[: ended + 1]
    starts = _last(before, "worker starts")
    if ended is None or not starts:
        return Recovery()
    return Recovery(
        detected=_seconds(signal, _detections(before)),
        gathered=_seconds(signal, starts),
        restored=_seconds(signal, _last(before, "restore")),
        first_step=events[ended].time - signal,
    )


def _is_first_step(event: Event, events: Sequence[Event], at: int) -> bool:
    """Whether a worker made it that began after the fault, and not one that went on."""
    is_new = any(other.name == "restore" and other.index == 0 for other in events[:at])
    return event.name == "first step" and event.index == 0 and is_new


def _detections(events: Sequence[Event]) -> list[float]:
    """When each agent knew; a killed one's cluster knows in its place, where nobody else does."""
    first: dict[int, float] = {}
    for event in events:
        if event.name in _KNOWN:
            first.setdefault(event.index, event.time)
    return list(first.values()) or [event.time for event in events if event.name == "agent ended"]


def _last(events: Sequence[Event], name: str) -> list[float]:
    """The last event of this name of each agent."""
    return list({event.index: event.time for event in events if event.name == name}.values())


def _seconds(signal: float, times: Sequence[float]) -> float | None:
    return max(times) - signal if times else None


def summarize(seconds: Sequence[float | None]) -> Iterator[tuple[str, float]]:
    """Median, 95th percentile (nearest rank) and worst of those that there are."""
    found = sorted(value for value in seconds if value is not None)
    if found:
        for name, share in (("p50", 0.5), ("p95", 0.95), ("worst", 1.0)):
            yield name, round(found[max(0, -(-int(share * 100) * len(found) // 100) - 1)], 3)
