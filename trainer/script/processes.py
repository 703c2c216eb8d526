"""The session of this process: begun by `trainer run`, or by the first call of a plain script."""

import atexit
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakSet

import tensorflow as tf
from prometheus_client import CollectorRegistry

from trainer.agreement import Alone
from trainer.cluster import read_cluster
from trainer.config import RunConfig
from trainer.data.pipeline import Place
from trainer.errors import ConfigError, StoppedError
from trainer.job import Job
from trainer.log import configure_logging, get_log, is_for_machines
from trainer.metrics import Metrics
from trainer.recipes.base import Params
from trainer.recipes.script import script_recipe
from trainer.run.run_dir import RunDir
from trainer.script.config import load_script_config
from trainer.script.reading import Sources
from trainer.script.session import Session
from trainer.stop import StopRequest
from trainer.storage import open_storage
from trainer.stores import DEADLINE_SECONDS, wait_for_stores
from trainer.strategy import compute_as_written


@dataclass
class _Here:
    """What this process has.

    is_launched: `trainer run` made the session. closing: gives back the run that is held. sources:
    what calls have read. changed: models that calls have changed, and did not end.
    """

    session: Session | None = None
    changed: WeakSet[Any] = field(default_factory=WeakSet)
    is_launched: bool = False
    closing: ExitStack = field(default_factory=ExitStack)
    sources: Sources = field(default_factory=Sources)


_here = _Here()


class Stopped(SystemExit):
    """A stop that no `except Exception` of a script keeps from ending it."""

    def __init__(self, error: StoppedError, code: int) -> None:
        super().__init__(code)
        self.error = error


def current() -> Session:
    """The session of this process. Without one, that of a plain script or a notebook begins.

    Where a call was broken off there, the run is held anew: the same call, made again, goes on.
    """
    session = _here.session
    if session is None:
        return setup()
    if session.is_broken and not _here.is_launched:
        _here.closing.close()
        session = _here.session = _alone(session.job.config, before=session)
    return session


def begin(session: Session) -> None:
    """Let the script's calls be those of `session`, which `trainer run` has made."""
    _here.session, _here.is_launched = session, True


@contextmanager
def reading(*given: Any) -> Iterator[None]:
    """While a call of `fit` reads this data. Raises ConfigError for what must be made anew."""
    # Under `trainer run` a life makes all data anew, and each makes the same calls.
    with _here.sources.reading(*given, spoils=not _here.is_launched):
        yield


def is_chief() -> bool:
    """Whether this process writes what one of several has to write: all of them run the script."""
    return read_cluster(os.environ).worker == 0


def setup(
    run_dir: str | None = None, *, config: str | None = None, overrides: Sequence[str] = ()
) -> Session:
    """Say where a plain script or a notebook keeps its run, before its first call of `fit`.

    run_dir: a folder, local or gs://; by default runs/ and the script's name. config: a YAML file.
    overrides: as in "checkpoint.every_steps=100". Called again, it begins with another run, or
    with the same one anew. Under `trainer run`, whose options say all of that, it does nothing.

    Raises ConfigError, and RunHeldError when another process trains this run.
    """
    if _here.session is not None and _here.is_launched:
        return _here.session
    if read_cluster(os.environ).num_workers > 1:
        raise ConfigError(
            "a script that several workers run is started by `trainer run SCRIPT`, which gathers "
            "them: TF_CONFIG or TRAINER_NUM_WORKERS names others here"
        )
    close()
    _here.sources.begin_life()
    own = [] if run_dir is None else [f"run.dir={run_dir}"]
    settings = load_script_config(config, [*own, *overrides], name=_name())
    _here.session = _alone(settings)
    return _here.session


def close() -> None:
    """Give back the run of a plain script or a notebook; the next call begins with it anew."""
    if not _here.is_launched:
        _here.closing.close()
        _here.session = None


def _alone(config: RunConfig, before: Session | None = None) -> Session:
    """before: the session of the same run whose calls that had ended this one knows, too."""
    is_shown = sys.stdout.isatty() or "ipykernel" in sys.modules
    configure_logging(as_json=config.log.format == "json")
    log = get_log()
    metrics = Metrics(CollectorRegistry(), labels=config.metrics.labels)
    wait_for_stores(config, open_storage, log)

    def opened(url: str) -> Any:
        return open_storage(url, deadline_seconds=DEADLINE_SECONDS)

    run = RunDir(config.run.dir, opened)
    run.check(config, Params, "")
    run.check_goes_on(start_over=config.checkpoint.start_over)

    def on_wait(reason: str) -> None:
        log.warning("waiting for the run", reason=reason)

    held = _here.closing.enter_context(run.held(config.run.lease_seconds, on_wait))
    held.admit(config, Params, "")
    stop = StopRequest(outlives=True)
    console = None
    if is_shown and not is_for_machines(config.log):
        from rich.console import Console

        console = Console()
    job = Job(config, script_recipe(), Params(), held, metrics, log, stop, console=console)
    if config.train.deterministic:
        compute_as_written()
    restored = held.restore(start_over=config.checkpoint.start_over)
    log.info("run", dir=run.url)
    atexit.register(close)
    session = Session(job, tf.distribute.get_strategy(), Place(), Alone(job.stop), restored)
    session.changed = _here.changed
    if before is not None:
        session.ended, session.last = before.ended, before.last
        session.world_sizes = before.world_sizes
    return session


def _name() -> str:
    script = Path(getattr(sys.modules["__main__"], "__file__", None) or "notebook.py")
    return script.stem if "ipykernel" not in sys.modules else "notebook"


@contextmanager
def leaving(stop: StopRequest) -> Iterator[None]:
    """A call of `fit`: told to stop, it ends the script, and with Ctrl-C a notebook's cell."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    if not _here.is_launched:
        stop.install()
    try:
        yield
    except StoppedError as error:
        if not _here.is_launched and stop.signal == signal.SIGINT:
            raise KeyboardInterrupt(str(error)) from None
        raise Stopped(error, stop.exit_code) from None
    finally:
        if not _here.is_launched:
            stop.forget()
            for number, handler in before.items():
                signal.signal(number, handler)
        # Where a stop is under way, it would end the process here, without another word.
        if not stop.is_set:
            stop.defer(False)
