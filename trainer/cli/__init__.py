"""The `trainer` command. Commands are thin: they read options and call what does the work.

Each command's module is loaded when it is called, and TensorFlow only inside the commands that
train or load a model: `trainer --help` costs no more than click.
"""

import atexit
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from trainer.cli.output import watch_output
from trainer.cli.root import trainer_command


def main(args: Sequence[str] | None = None, **extra: Any) -> NoReturn:
    """Run one command and end the process with its exit code."""
    # The first process of a container: the kernel keeps signals without a handler from it.
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, _frame: os._exit(128 + number))
    output, code = watch_output(), 0
    stdout = sys.stdout  # click may put another in its place
    try:
        trainer_command.main(args, **{"prog_name": "trainer", **extra})
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except OSError as error:
        if error is not output.error:
            raise
    with suppress(OSError):
        stdout.flush()
    # TensorFlow removes its generated sources there, some twenty files a process.
    atexit._run_exitfuncs()
    # Now, and not when they are done: threads of a stalled save or of TensorFlow must not keep it.
    os._exit(output.exit_code(code))
