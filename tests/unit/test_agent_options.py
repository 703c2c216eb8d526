"""What an agent adds to a command is the command's, and never the script's."""

import pytest

from trainer.agent.process import with_options
from trainer.cli.train import worker


@pytest.mark.parametrize(
    "script", [[], ["--", "train.py"], ["--", "train.py", "--rate", "--", "x"]]
)
def test_options_are_the_commands(script):
    given = with_options(["--set=train.seed=1", *script], ["--set=train.seed=2", "--if-complete"])
    found = worker.make_context("worker", given).params
    assert found["if_complete"] is True
    assert found["overrides"] == ("train.seed=1", "train.seed=2")
    assert list(found["script"]) == script[1:]
