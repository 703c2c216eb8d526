"""Importing TensorFlow sooner, and without the notices that it prints whatever its log level is.

An import makes objects and drops next to none, and the garbage collector looks through them again
and again: a quarter of the time. So it rests until the import is over, and leaves what is there
then alone for good.

Two copies of its logging library write "oneDNN custom operations are on" and the like straight to
file descriptor 2 while the module loads, before any level is applied. For that time descriptor 2
leads through a process that passes on everything else: a crash in the import is still seen.
"""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, nullcontext, suppress

from trainer.backend import TENSORFLOW, VARIABLE

# Lines of severity INFO, the notice about them, and the one continuation that there is.
_FILTER = r"""
import re, sys
notice = re.compile(rb"I\d{4} \d|WARNING: All log messages before absl::InitializeLog|"
                    rb"To enable the following instructions:")
for line in sys.stdin.buffer:
    if not notice.match(line):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
"""
_MOST_SECONDS = 10.0


@contextmanager
def importing_tensorflow(environ: MutableMapping[str, str] = os.environ) -> Iterator[None]:
    """Import TensorFlow inside of this block; errors and warnings of it are shown as ever.

    Sets TF_CPP_MIN_LOG_LEVEL to 2, warnings and below, unless it is set; set to 0, everything
    is shown. Sets Keras' backend, too: Keras would ask a file in the home folder.
    """
    environ[VARIABLE] = environ.get(VARIABLE) or TENSORFLOW
    level = environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "tensorflow" in sys.modules:
        yield
        return
    with _uncollected(), nullcontext() if level == "0" else _filtered():
        yield


@contextmanager
def _uncollected() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if "tensorflow" in sys.modules:
            gc.freeze()
        if was_enabled:
            gc.enable()


@contextmanager
def _filtered() -> Iterator[None]:
    process = _start_filter()
    if process is None or process.stdin is None:
        yield
        return
    sys.stderr.flush()
    original = os.dup(2)
    os.dup2(process.stdin.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(original, 2)
        os.close(original)
        _end(process)


def _start_filter() -> "subprocess.Popen[bytes] | None":
    command = [sys.executable, "-I", "-S", "-c", _FILTER]
    # A session of its own: Ctrl-C is for the training process alone.
    with suppress(OSError):
        return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    return None


def _end(process: "subprocess.Popen[bytes]") -> None:
    with suppress(OSError):
        process.stdin.close()  # type: ignore[union-attr]
    try:
        process.wait(_MOST_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
