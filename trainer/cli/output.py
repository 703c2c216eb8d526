"""Standard streams that are closed, on a full device, or left by their reader."""

import io
import os
import sys
from contextlib import suppress
from typing import Any

import click

_BROKEN_PIPE = 141  # 128 + SIGPIPE, as shells report it


class Output(io.FileIO):
    """What is below standard output; remembers why it could not be written."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """As always."""
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise

    def exit_code(self, code: int) -> int:
        """A command's exit code, which its output may change."""
        if isinstance(self.error, BrokenPipeError):
            return _BROKEN_PIPE  # its reader has enough
        if self.error is None:
            return code
        say(f"trainer: cannot write to standard output: {self.error.strerror}")
        return 1


def watch_output() -> Output:
    """Put an `Output` below `sys.stdout`, which is there even where it was closed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # Or the next file that is opened would take its place.
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
    output, now = Output(sys.stdout.fileno(), "w", closefd=False), sys.stdout
    # A run's name may have characters that this encoding lacks.
    errors = "backslashreplace" if now.errors == "strict" else now.errors
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(output), now.encoding, errors, line_buffering=output.isatty()
    )
    return output


def watched_output() -> Output | None:
    """What `watch_output` has put there."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw if isinstance(raw, Output) else None


def drop_output() -> None:
    """Forget what could not be written: the exit code is to tell of something else."""
    with suppress(OSError):
        sys.stdout.flush()
    output = watched_output()
    if output is not None and output.error is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
        output.error = None


def say(line: str) -> None:
    """A line on standard error, if that can be written."""
    with suppress(OSError):
        click.echo(line, err=True)
