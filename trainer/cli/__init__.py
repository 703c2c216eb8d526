"""The `trainer` command. Commands are thin: they read options and call what does the work.

Each command's module is loaded when it is called, and TensorFlow only inside the commands that
train or load a model: `trainer --help` costs no more than click.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from trainer.cli.root import trainer_command


def main(args: Sequence[str] | None = None, **extra: Any) -> NoReturn:
    """Run one command and end the process with its exit code."""
    try:
        trainer_command.main(args, **{"prog_name": "trainer", **extra})
        code: Any = 0
    except SystemExit as ending:
        code = ending.code
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass
    # Now, and not when they are done: threads of a stalled save or of TensorFlow must not keep it.
    os._exit(code if isinstance(code, int) else int(code is not None))
