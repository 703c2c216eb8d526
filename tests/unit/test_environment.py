"""A variable of ours that means nothing is refused."""

import pytest

from trainer.environment import check_environment
from trainer.errors import ConfigError


@pytest.mark.parametrize("name", ["TRAINER_DEBUG", "PATH", "_TRAINER_COMPLETE"])
def test_known_or_not_ours(name):
    check_environment({name: "x"})


def test_misspelt():
    with pytest.raises(ConfigError) as caught:
        check_environment({"TRAINER_DEBUGG": "hunter2"})
    assert str(caught.value) == (
        "unknown environment variable TRAINER_DEBUGG: unset it, or did you mean TRAINER_DEBUG?"
    )


def test_strange():
    with pytest.raises(ConfigError, match="known: TRAINER_DEBUG"):
        check_environment({"TRAINER_X_PORT_8080_TCP": "tcp://10.0.0.1"})
