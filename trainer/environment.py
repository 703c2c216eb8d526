"""Where a command runs: environment variables of ours, and by which name it was called.

Imports nothing heavy, because every command checks the environment before anything else.
"""

import difflib
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from trainer.errors import ConfigError

# Known to agents alone: who knows it may join the run.
SECRET_VARIABLE = "TRAINER_GROUP_SECRET"
# A worker that fails is not yet the end: its agent has the last word.
LAST_WORDS_VARIABLE = "TRAINER_TERMINATION_LOG"
KNOWN_VARIABLES = {
    "TRAINER_DEBUG": "print a traceback when a command fails",
    SECRET_VARIABLE: "what the agents of a run prove that they know, 16 characters or more",
    "TRAINER_GROUP_SECRET_FILE": "a file that holds it",
    "TRAINER_HOST": "where the other workers reach this one; by default this machine's address",
    "TRAINER_JOB_ID": "unique id of the job that this process belongs to, for its lease",
    "TRAINER_LEADER": "host, or host:port, of worker 0",
    "TRAINER_NUM_WORKERS": "how many workers the run has",
    LAST_WORDS_VARIABLE: "a file for the final error, as Kubernetes' /dev/termination-log; in a "
    "pod, process 1 and its children write it",
    "TRAINER_WORKER_INDEX": "which of them this is, from 0; by default JOB_COMPLETION_INDEX",
}
# Set by an agent for its workers, not by people.
CHANNEL_VARIABLE = "TRAINER_AGENT_CHANNEL"
SPARE_VARIABLE = "TRAINER_AGENT_SPARE"
_KNOWN = (*KNOWN_VARIABLES, CHANNEL_VARIABLE, SPARE_VARIABLE)


def check_environment(environ: Mapping[str, str] = os.environ) -> None:
    """Refuse a TRAINER_… variable that means nothing: most likely it is misspelt.

    Values are never shown. Raises ConfigError.
    """
    for name in sorted(environ):
        if name.startswith("TRAINER_") and name not in _KNOWN:
            near = difflib.get_close_matches(name, KNOWN_VARIABLES, n=1, cutoff=0.75)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(KNOWN_VARIABLES)}"
            raise ConfigError(f"unknown environment variable {name}: unset it, or {hint}")


def command_name(called: str | None = None) -> str:
    """`trainer` as the user may type it: `.venv/bin/trainer`, where that is not on the PATH."""
    script = Path(called or sys.argv[0])
    if script.name != "trainer" or not script.is_file():
        return "trainer"
    on_path = shutil.which("trainer")
    is_on_path = on_path is not None and script.samefile(on_path)
    return "trainer" if is_on_path else shlex.quote(str(script))
