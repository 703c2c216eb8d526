"""At what a process was when it was killed: pure, from what agents and workers have said."""

from collections.abc import Sequence

from trainer.chaos.agents import Event

# What begins with an event, of an agent or its worker.
_OWN = {
    "agent ended": "gathering", "worker restarts": "gathering", "stopping": "gathering",
    "worker starts": "importing", "config": "building", "model": "restoring",
    "restore": "compiling", "first step": "training", "final save": "ending",
}  # fmt: skip
# All workers train as one, and worker 0 tells of it; the save of an epoch follows its end.
_OF_ALL = {
    "first step": "training", "checkpoint": "training", "validation": "validation",
    "saving": "saving", "epoch": "saving",
}  # fmt: skip
PHASES = {
    "gathering": "an agent starts, or waits for the others",
    "importing": "a worker imports TensorFlow",
    "building": "data, strategy and model are made",
    "restoring": "a checkpoint is read and verified",
    "compiling": "the state is put back, the step traced and compiled, with its first call",
    "training": "steps are made, and nothing else",
    "validation": "the pass after an epoch",
    "saving": "a checkpoint is due or written in the background, while steps go on",
    "ending": "the last checkpoint is committed; export and report",
}


def phase_at(events: Sequence[Event], index: int, time: float) -> str:
    """The phase of worker `index` and its agent at a Unix time."""
    own = _latest([event for event in events if event.index == index], _OWN, time)
    if own != "training":
        return own
    return _latest([event for event in events if event.index == 0], _OF_ALL, time)


def _latest(events: Sequence[Event], begins: dict[str, str], time: float) -> str:
    known = [event for event in events if event.name in begins and event.time <= time]
    if not known:
        return "gathering" if begins is _OWN else "training"
    return begins[max(known, key=lambda event: event.time).name]
