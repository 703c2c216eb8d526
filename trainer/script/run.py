"""One life of a worker that runs a user's script; read `train_script` top to bottom.

config -> cluster -> strategy -> restore -> the script, with its calls of `fit` -> report
"""

import runpy
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras.src.saving import saving_lib

from trainer.backend import TENSORFLOW
from trainer.errors import ConfigError, TrainerError
from trainer.job import Job
from trainer.script import processes
from trainer.script.config import Script
from trainer.script.session import Session
from trainer.user_code import describe
from trainer.worker import agree, compute, tell_names

# Nothing that a second try would mend.
_FINAL = (SyntaxError, ImportError, NameError)
# What argparse and click exit with when a script's arguments are wrong.
_USAGE = 2
_ALIVE_SECONDS = 10.0


def train_script(job: Job, script: Script) -> dict[str, Any]:
    """Run the script to its end and return the summary, which is then in the run's folder, too.

    Raises TrainerError of every kind; StoppedError when told to stop.
    """
    started = job.clock()
    tell_names(job)
    job.log.info("config", run=job.config.run_name, script=str(script.path), dir=job.run.url)
    strategy, place = compute(job)
    if keras.backend.backend() == TENSORFLOW:
        _let_one_worker_save()
        # The script builds its models as ever, and their variables are mirrored.
        tf.distribute.experimental_set_strategy(strategy)
    agreement, _ = agree(job, strategy, place)
    with job.goodput.cause("restore"):
        restored = job.run.restore(start_over=job.config.checkpoint.start_over, agreement=agreement)
    job.on_progress()
    job.run.reopen()
    session = Session(job, strategy, place, agreement, restored)
    processes.begin(session)
    with _alive(session):
        _run(script, session)
    session.check_all_were_made()
    if not session.ended:
        job.log.warning(
            "the script never called trainer.fit: nothing of it can be resumed",
            way_out="call trainer.fit(model, ...) where it calls model.fit(...)",
        )
    summary = session.summary(job.clock() - started, script.sha256)
    job.log.info("report", step=summary["steps"])
    with job.goodput.cause("checkpoint"):
        job.run.write_summary(summary)
        agreement.part()  # who leaves earlier would break the chief's writing off
    return summary


@contextmanager
def _alive(session: Session) -> Iterator[None]:
    """While a script's own code runs: hours before, between and after calls of `fit` are no hang.

    In one, or in `evaluate` or `predict`, progress is what says so; a process that stands still
    says nothing either way.
    """
    is_over = threading.Event()
    every = min(_ALIVE_SECONDS, session.job.config.run.hang_seconds / 4)

    def tell() -> None:
        while not is_over.wait(every):
            if not session.num_working:
                session.job.on_progress()

    thread = threading.Thread(target=tell, name="alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _let_one_worker_save() -> None:
    """Keep from Keras that it makes variables where it saves a model.

    It makes a bare optimizer there, to see which attributes of a real one to pass over. Under the
    script's strategy that optimizer's variables would be the group's, and a worker that saves
    alone, as `ModelCheckpoint` does, would wait for the others, which are at something else.
    """
    find: Callable[[str], Any] = saving_lib.get_attr_skipset
    of_optimizers = find("Optimizer")
    saving_lib.get_attr_skipset = lambda kind: of_optimizers if kind == "Optimizer" else find(kind)


def _run(script: Script, session: Session) -> None:
    """As `python SCRIPT ARGUMENTS` does; where its last `trainer.fit` failed, so does it."""
    path = str(script.path)
    script.read()
    sys.argv = [path, *script.arguments]
    sys.path.insert(0, str(Path(path).resolve().parent))
    # Its arguments may hold what no log may.
    session.job.log.info("script", path=path, arguments=len(script.arguments))
    ended_by = _ended_by(path)
    failure = session.failure
    if failure not in (None, ended_by):
        # A run that is marked complete is never gone on with.
        session.job.log.warning("trainer.fit failed, whatever the script did after it")
        if isinstance(ended_by, Exception):
            _show_traceback(ended_by, path)
        ended_by = failure
    match ended_by:
        case None:
            return
        case processes.Stopped():
            raise ended_by.error from None
        case SystemExit(code=code) if code == _USAGE:
            raise ConfigError(f"{path} ended with sys.exit({code}): its arguments are wrong")
        case SystemExit(code=code):
            raise TrainerError(f"{path} ended with sys.exit({code!r})")
        case TrainerError():
            raise ended_by
        case Exception():
            _show_traceback(ended_by, path)
            kind = ConfigError if isinstance(ended_by, _FINAL) else TrainerError
            raise kind(f"{path} raised {describe(ended_by)}") from ended_by
        case _:
            raise ended_by


def _ended_by(path: str) -> BaseException | None:
    """What ended the script; nothing, where it came to its end or left by `sys.exit(0)`."""
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        return None if end.code in (None, 0) else end
    except BaseException as error:
        return error
    return None


def _show_traceback(error: Exception, path: str) -> None:
    """As Python does, from the script's first line on."""
    frames = traceback.TracebackException.from_exception(error)
    own = [i for i, frame in enumerate(frames.stack) if frame.filename == path]
    # None of them is the script's when it cannot even be parsed.
    first = own[0] if own else len(frames.stack)
    frames.stack = traceback.StackSummary.from_list(frames.stack[first:])
    print("".join(frames.format()), end="", file=sys.stderr, flush=True)
