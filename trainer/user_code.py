"""Where in a user's own code an error came from: recipe, data functions, steps, callbacks."""

import errno
import re
import ssl
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainer.errors import ConfigError, TrainerError

_MOST_CHARACTERS = 500
# Of memory and of other workers, as TensorFlow numbers its errors: cancelled, deadline exceeded,
# resource exhausted, aborted, unavailable. Another time they may not come.
_PASSING = (1, 4, 8, 10, 14)
# Errors of the system that the same call gives each time: of what a path names, mostly.
_LASTING = {
    errno.EACCES, errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG,
    errno.ENOENT, errno.ENOTDIR, errno.EPERM, errno.EROFS,
}  # fmt: skip
# Of HTTP, below 500: a time-out, too early, too many requests.
_ANOTHER_TIME = (408, 425, 429)
# As TensorFlow tells of what a generator raised; it keeps the text alone.
_UNKNOWN = 2
_NUMBER = re.compile(r"\[Errno (-?\d+)\]")
_AWAY = re.compile(r"\b(Connection\w*Error|BrokenPipeError|TimeoutError|gaierror): ")
# Invalid argument, unimplemented: what one worker alone computes fails so each time.
NEVER_PASSING = (3, 12)
# As Python prints a frame; TensorFlow's messages hold the frames of what it traced.
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>\S+)')
_TRACED = "in user code:"
# Names of nodes around what an operation says.
_NODES = re.compile(r"\{\{.*?\}\} |\nTraceback.*|\s*\[\[\{\{.*", re.DOTALL)


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """What runs inside is a user's; ConfigError names `what` and the place when it raises.

    TrainerError does for what may go well another time: a file that cannot be read right now, a
    service that does not answer.
    """
    try:
        yield
    except (TrainerError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        if getattr(error, "error_code", None) in _PASSING:
            raise
        kind = TrainerError if _may_pass(error) else ConfigError
        raise kind(f"{what} raised {describe(error)}") from error


def _may_pass(error: BaseException) -> bool:
    """Whether it is of a network or a disk; a file of other contents is an OSError, too."""
    if getattr(error, "error_code", None) == _UNKNOWN:
        number = _NUMBER.search(str(error))
        is_away = _AWAY.search(str(error)) is not None
        return is_away if number is None else int(number[1]) not in _LASTING
    # Libraries for HTTP raise theirs around the system's, some with others in between.
    waiting: list[BaseException] = [error] if isinstance(error, OSError) else []
    seen: set[int] = set()
    while waiting:
        one = waiting.pop(0)
        if (verdict := _passes(one)) is not None:
            return verdict
        seen.add(id(one))
        inner = (getattr(one, "reason", None), one.__cause__, one.__context__)
        waiting += [e for e in inner if isinstance(e, BaseException) and id(e) not in seen]
    return False


def _passes(error: BaseException) -> bool | None:
    """What one error of a chain says by itself, if it does."""
    if not isinstance(error, OSError):
        return None
    status = getattr(error, "code", getattr(getattr(error, "response", None), "status_code", None))
    if isinstance(status, int):
        return status in _ANOTHER_TIME or status >= 500
    if isinstance(error, ssl.SSLError):  # its errno is OpenSSL's
        return not isinstance(error, ssl.SSLCertVerificationError)
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    return None if error.errno is None else error.errno not in _LASTING


def describe(error: BaseException) -> str:
    """An error and the innermost line of the user's that it came through."""
    cause = error
    # TensorFlow raises another error of the same type, with frames in its message.
    while str(cause).startswith(_TRACED) and cause.__context__ is not None:
        cause = cause.__context__
    message = _NODES.sub("", _reason(str(getattr(cause, "message", cause)))).strip()
    place = find_place(error)
    said = f"{type(cause).__name__}: {message[:_MOST_CHARACTERS]}"
    return f"{said} ({place})" if place else said


def _reason(message: str) -> str:
    """What TensorFlow says of a failed operation, without the frames that it was defined in."""
    if not message.startswith("Graph execution error"):
        return message
    headings = ("Graph execution error", "Detected at node", "Stack trace for op", " ", "\t")
    lines = [line for line in message.splitlines() if line and not line.startswith(headings)]
    return "\n".join(lines) or message


def find_place(error: BaseException) -> str | None:
    """File, line and function of the user's that an error came through; None without one."""
    in_text = [(m["file"], int(m["line"]), m["name"]) for m in _FRAME.finditer(str(error))]
    in_stack = [(f.filename, f.lineno, f.name) for f in traceback.extract_tb(error.__traceback__)]
    # A recipe that was installed lies beside the libraries.
    for libraries in (_libraries(), _frameworks()):
        for file, line, name in reversed(in_text or in_stack):
            path = Path(file).absolute()
            if path.is_file() and not any(path.is_relative_to(folder) for folder in libraries):
                return f"{file}:{line}, in {name}"
    return None


def find_callback(error: BaseException) -> str | None:
    """Class and hook of the callback that an error came through; None if it did not."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    # `callback` is what loops over callbacks call theirs: some hooks are functions without self.
    held = [frame.f_locals.get(name) for frame in frames for name in ("self", "callback")]
    callbacks = [value for value in held if _is_callback(value)]
    if not callbacks:
        return None
    found = callbacks[-1]
    hooks = [frame.f_code.co_name for frame in frames if frame.f_locals.get("self") is found]
    return f"callback {type(found).__name__}" + (f".{hooks[0]}" if hooks else "")


def _is_callback(value: Any) -> bool:
    # By its hooks, because no Keras is imported here; a list of callbacks has hooks, too.
    is_ours = type(value).__module__.startswith("trainer.")
    has_hooks = hasattr(value, "on_train_batch_end") and not hasattr(value, "callbacks")
    return has_hooks and not is_ours


def _libraries() -> list[str]:
    return [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *_frameworks()]


def _frameworks() -> list[str]:
    names = ("trainer", "click", "keras", "tensorflow", "jax", "torch")
    specs = (find_spec(name) for name in names)
    folders = [str(Path(spec.origin).parent) for spec in specs if spec and spec.origin]
    # The command that was called stands among the scripts.
    return [sysconfig.get_path("stdlib"), sysconfig.get_path("scripts"), *folders]
