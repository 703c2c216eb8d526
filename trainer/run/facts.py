"""What is known of a run from its folder alone, be it running or over. Writes nothing.

Data for whoever shows runs: a report, a list, a status. Whatever in the folder is damaged, or was
never written because another version made the run, is missing in the facts and told in `problems`.
No TensorFlow.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from trainer.checkpoint.format import MAX_DOCUMENT_BYTES
from trainer.checkpoint.holder import this_holder
from trainer.checkpoint.inventory import Listed, take_inventory
from trainer.checkpoint.lease import seen_holder
from trainer.config import RunConfig
from trainer.errors import ObjectNotFoundError, TrainerError
from trainer.goodput import COMPLETE, LOST, Generation, Ledger
from trainer.run import curve_store, ledger
from trainer.run.curves import Curves, joined
from trainer.run.events import Event
from trainer.run.events import read as read_events
from trainer.run.run_dir import CONFIG_FILE, PICTURES, RUN_FILE, RunDir

# So much of the newest speed says how long the rest will take.
_RECENT_POINTS = 20
# What goes on as long as steps are made; the other causes come once a life.
_OF_TRAINING = ("step", "redone", "data_wait", "validation", "checkpoint")
_MOST_STEPS = 1 << 53
UNREADABLE = "unreadable"
MAX_CONFIG_BYTES = 1 << 20  # takes half a second to parse
_T = TypeVar("_T")


@dataclass(frozen=True)
class Life:
    """One life of the workers: what the ledger has of it, and its events.

    number: its fence. spent: None of a run without a ledger.
    """

    number: int
    spent: Generation | None = None
    events: tuple[Event, ...] = ()

    @property
    def began(self) -> float | None:
        """Unix time."""
        if self.spent is not None:
            return self.spent.start
        return self.events[0]["time"] if self.events else None

    @property
    def ended(self) -> float | None:
        """Unix time of the last that is known of its work: what it was `down` for came later."""
        told = [event["time"] for event in self.events]
        if self.spent is None:
            return told[-1] if told else None
        worked = self.spent.end - self.spent.seconds.get("down", 0.0)
        return min(max(worked, self.spent.start, *told), self.spent.end)

    @property
    def restored(self) -> int | None:
        """The step that it went on from, 0 at the run's beginning; None if it never came so far."""
        step = self._field("restore", "step")
        is_count = isinstance(step, int) and not isinstance(step, bool)
        return step if is_count and 0 <= step <= _MOST_STEPS else None

    @property
    def skipped(self) -> tuple[str, ...]:
        """Why checkpoints newer than the restored one were passed over."""
        reasons = self._field("restore", "skipped")
        return tuple(map(str, reasons)) if isinstance(reasons, list) else ()

    @property
    def reason(self) -> str:
        """Why it ended, as in `trainer.goodput.Generation`; "" while that is not known."""
        if self.spent is not None and self.spent.reason:
            return self.spent.reason
        told = {"complete": COMPLETE, "stop": "stopped", "failure": "failed"}
        names = [event["event"] for event in self.events]
        return next((told[name] for name in reversed(names) if name in told), "")

    @property
    def detail(self) -> str:
        """More of the reason."""
        if self.spent is not None and self.spent.detail:
            return self.spent.detail
        return str(self._field("failure", "reason") or self._field("stop", "reason") or "")

    @property
    def holder(self) -> str:
        """The process, and the job, that it ran in."""
        return str(self._field("start", "holder") or "")

    @property
    def surroundings(self) -> dict[str, str]:
        """Versions and machine, by name."""
        found: dict[str, str] = {}
        for name in ("versions", "machine"):
            facts = self._field("start", name)
            if isinstance(facts, dict):
                found |= {str(key): str(value) for key, value in facts.items()}
        return found or {"version": str(self._field("start", "version") or "")}

    def _field(self, event: str, name: str) -> Any:
        return next((each.get(name) for each in self.events if each["event"] == event), None)


@dataclass(frozen=True)
class RunFacts:
    """One run. Times are Unix times; what is not known is None or empty.

    state: "complete", "running", "not started", or why the last life ended: "stopped", "killed",
    "crashed", "failed", "hung", "group" or "lost". step: global steps done; while nobody holds it,
    those that it can go on from. reached: those that its last life came to. target: steps to reach.
    epochs: to train. config_text: `config.yaml` as it stands. record: `run.json`. pictures: files
    that callbacks drew, by path. problems: what of the folder cannot be read.
    """

    url: str
    name: str
    state: str
    holder: str | None = None
    step: int = 0
    reached: int = 0
    target: int | None = None
    epochs: int | None = None
    config: RunConfig | None = None
    config_text: str = ""
    record: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] | None = None
    ledger: Ledger = field(default_factory=Ledger)
    lives: tuple[Life, ...] = ()
    checkpoints: tuple[Listed, ...] = ()
    curves: Curves = field(default_factory=Curves)
    pictures: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def restarts(self) -> int:
        """Lives after the first."""
        return max(len(self.lives) - 1, 0)

    @property
    def is_broken_off(self) -> bool:
        """Whether nobody trains it, though it was begun and is not complete."""
        return self.state not in (COMPLETE, "running", "not started", UNREADABLE)

    @property
    def ended(self) -> tuple[Life, ...]:
        """The lives that did not bring the run to where it is to go."""
        return self.lives if self.is_broken_off else self.lives[:-1]

    @property
    def because(self) -> str:
        """More of why nobody trains it; "" when that is not known, or somebody does."""
        if not self.is_broken_off or not self.lives:
            return ""
        nothing = "its agent went without a word" if self.state == LOST else ""
        return self.lives[-1].detail or nothing

    @property
    def goodput(self) -> float | None:
        """Share of the wall time that went into steps which counted; None without a ledger."""
        return self.ledger.productive if self.ledger.generations else None

    @property
    def last_checkpoint(self) -> Listed | None:
        """The newest that is committed."""
        return next((each for each in reversed(self.checkpoints) if each.committed), None)

    @property
    def eta_seconds(self) -> float | None:
        """What the steps that are left take at the pace of this life, validation and saves in it.

        Without a ledger, at the speed of the newest steps alone.
        """
        pace = self._seconds_a_step()
        if self.state != "running" or self.target is None or pace is None:
            return None
        return max(self.target - self.step, 0) * pace

    def _seconds_a_step(self) -> float | None:
        life = self.lives[-1] if self.lives else None
        if life is not None and life.spent is not None and life.restored is not None:
            seconds = sum(life.spent.seconds.get(cause, 0.0) for cause in _OF_TRAINING)
            steps = life.spent.step - life.restored
            if steps > 0 and seconds > 0:
                return seconds / steps
        speeds = self.curves.speed.values.get("steps_per_second", [])[-_RECENT_POINTS:]
        known = [speed for speed in speeds if speed]
        return len(known) / sum(known) if known else None


def read_facts(run: RunDir, *, whole: bool = True, now: float | None = None) -> RunFacts:
    """Read all of them; unless `whole`, of the curves those of the last life alone.

    Raises ConfigError when there is no run, StorageError when its store does not answer.
    """
    run.check_exists()
    reading = _Reading()
    text = reading.text(run, CONFIG_FILE, MAX_CONFIG_BYTES)
    config = reading.attempt(run.config, None) if text else None
    if not text and not reading.problems:
        reading.problems.append(f"{CONFIG_FILE} in {run.url} is missing or empty")
    summary = reading.attempt(run.read_summary, None)
    holder = reading.attempt(
        lambda: seen_holder(run.storage, this_holder({}), now=time.time() if now is None else now),
        None,
    )
    spent, unspent = ledger.read_all(run.storage)
    events, untold = read_events(run.storage)
    lives = _lives(spent, events)
    curves, problems = curve_store.read(run.storage, last=0 if whole else 1)
    curve = joined(curves)
    nothing: list[Listed] = []
    listed = reading.attempt(lambda: take_inventory(run.checkpoints, verify=False), nothing)
    reached = _reached(summary, lives, curve, listed)
    record = reading.record(run)
    return RunFacts(
        url=run.url,
        name=config.run_name if config else run.url.rstrip("/").rpartition("/")[2],
        state=_state(summary, holder, lives),
        holder=holder,
        step=reached if holder is not None or summary is not None else _saved(listed),
        reached=reached,
        target=summary["steps"] if summary else curve.target or None,
        epochs=_epochs(config, summary),
        config=config,
        config_text=text,
        record=record,
        summary=summary,
        ledger=spent,
        lives=lives,
        checkpoints=tuple(listed),
        curves=curve,
        pictures=tuple(entry.path for entry in run.storage.list(PICTURES)),
        problems=tuple(dict.fromkeys([*reading.problems, *unspent, *untold, *problems])),
    )


class _Reading:
    """Remembers what was damaged, and goes on."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def attempt(self, read: Callable[[], _T], otherwise: _T) -> _T:
        try:
            return read()
        except ObjectNotFoundError:
            return otherwise
        except TrainerError as error:
            if error.exit_code == 1:  # the store's, and not the file's
                raise
            self.problems.append(str(error))
            return otherwise

    def text(self, run: RunDir, file: str, most_bytes: int) -> str:
        """ "" when there is none."""
        try:
            if run.storage.stat(file).size <= most_bytes:
                return run.storage.read(file).decode(errors="replace")
        except ObjectNotFoundError:
            return ""
        self._damaged(run, file, f"larger than {most_bytes} bytes")
        return ""

    def record(self, run: RunDir) -> dict[str, Any]:
        text = self.text(run, RUN_FILE, MAX_DOCUMENT_BYTES)
        try:
            tree = json.loads(text) if text else {}
        except (ValueError, RecursionError):
            tree = None
        if isinstance(tree, dict):
            return tree
        self._damaged(run, RUN_FILE, "not a JSON object")
        return {}

    def _damaged(self, run: RunDir, file: str, why: str) -> None:
        self.problems.append(f"{file} in {run.url} is damaged ({why})")


def _lives(spent: Ledger, events: dict[int, list[Event]]) -> tuple[Life, ...]:
    generations = {life.number: life for life in spent.generations}
    numbers = sorted({*generations, *events})
    return tuple(
        Life(number, generations.get(number), tuple(events.get(number, ()))) for number in numbers
    )


def _state(summary: dict[str, Any] | None, holder: str | None, lives: tuple[Life, ...]) -> str:
    if summary is not None:
        return COMPLETE
    if holder is not None:
        return "running"
    if not lives:
        return "not started"
    # Complete once, and begun again with more epochs.
    return lives[-1].reason.replace(COMPLETE, "stopped") or LOST


def _reached(
    summary: dict[str, Any] | None, lives: tuple[Life, ...], curves: Curves,
    checkpoints: Sequence[Listed],
) -> int:  # fmt: skip
    """Where its last life came to: one before it may have come further, which is lost."""
    if summary is not None:
        return int(summary["steps"])
    last = lives[-1] if lives else None
    told = last.spent.step if last is not None and last.spent is not None else 0
    return max(_saved(checkpoints), told, curves.step)


def _saved(checkpoints: Sequence[Listed]) -> int:
    return max((each.step for each in checkpoints if each.committed), default=0)


def _epochs(config: RunConfig | None, summary: dict[str, Any] | None) -> int | None:
    if summary is not None:
        return int(summary["epochs"])
    return config.train.epochs if config else None
