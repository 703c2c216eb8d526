"""Whether a holder of a run lives."""

import os
import subprocess
import sys

from trainer.checkpoint.holder import _started, is_alive, this_holder


def test_a_process_that_ended_is_not_alive_before_its_parent_has_looked() -> None:
    mine = this_holder({})
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = _started(process.pid)
        assert started is not None
        here = mine.process.model_copy(update={"pid": process.pid, "started": started})
        theirs = mine.model_copy(update={"process": here})
        assert is_alive(theirs, mine)
        process.kill()
        # It has ended then, and is a zombie: it is waited for below.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_alive(theirs, mine) is False
