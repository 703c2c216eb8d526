"""An error of a user's own code is told with its place and the callback it came through."""

import errno
import re
import socket
import ssl
import sysconfig
from collections.abc import Callable
from email.message import Message
from functools import partial
from pathlib import Path
from urllib.error import HTTPError, URLError

import click
import keras
import pytest
import requests
import tensorflow as tf

from trainer.errors import ConfigError, TrainerError
from trainer.user_code import describe, find_callback, find_place, user_code


def bug(*_args: object, **_more: object) -> None:
    raise ValueError("no such file")


@pytest.mark.parametrize("hook", ["on_epoch_end", "on_train_batch_end"])
def test_a_plain_function_as_a_hook(hook: str) -> None:
    callbacks = keras.callbacks.CallbackList([keras.callbacks.LambdaCallback(**{hook: bug})])
    with pytest.raises(ValueError, match="no such file") as raised:
        getattr(callbacks, hook)(0, {})
    assert find_callback(raised.value) == "callback LambdaCallback"
    assert find_place(raised.value) == f"{__file__}:{bug.__code__.co_firstlineno + 1}, in bug"


def test_an_error_of_a_librarys_own_has_no_place_of_the_users() -> None:
    schedule = keras.callbacks.LearningRateScheduler(None)
    schedule.set_model(keras.Model())
    # Caught where it was raised, with no frame of this file on the way.
    error = None
    try:
        schedule.on_epoch_begin(0)
    except Exception as found:
        error = found.with_traceback(found.__traceback__.tb_next)
    assert find_place(error) is None
    assert find_callback(error) == "callback LearningRateScheduler.on_epoch_begin"


def test_what_was_traced_is_told_by_its_own_message() -> None:
    with pytest.raises(ConfigError) as raised, user_code("the step"):
        tf.function(bug)()
    place = f"{__file__}:{bug.__code__.co_firstlineno + 1}, in bug"
    assert str(raised.value) == f"the step raised ValueError: no such file ({place})"
    assert isinstance(raised.value.__cause__, ValueError)
    assert describe(raised.value.__cause__) in str(raised.value)


@pytest.mark.parametrize(
    "kind", [MemoryError, tf.errors.ResourceExhaustedError, tf.errors.UnavailableError]
)
def test_want_of_memory_is_no_fault_of_the_code(kind: type) -> None:
    error = kind() if kind is MemoryError else kind(None, None, "OOM")
    with pytest.raises(kind), user_code("the step"):
        raise error


def look_up(label: tf.Tensor) -> tf.Tensor:
    return tf.nn.sparse_softmax_cross_entropy_with_logits(label[None], tf.zeros([1, 9]))


def test_an_error_of_a_graph_that_runs_is_told_by_its_reason() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        tf.function(look_up, autograph=False)(tf.constant(9))
    assert "Detected at node" in raised.value.message
    told = describe(raised.value)
    # With repeatable operations, which other tests may have asked for, another one meets it.
    assert re.match(
        r"InvalidArgumentError: (Received a label value of 9|indices\[0\] = 9 is)", told
    )
    assert told.endswith(f"({__file__}:{look_up.__code__.co_firstlineno + 1}, in look_up)")
    assert "Detected" not in told


def test_the_command_that_was_called_is_no_place_of_the_users(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = Path(sysconfig.get_path("scripts")) / "trainer"
    # As it was called, from a folder above, too.
    monkeypatch.chdir(script.parent.parent)
    for file in (script, script.relative_to(Path.cwd()), click.core.__file__):
        assert find_place(ValueError(f'File "{file}", line 8, in main')) is None


def refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    requests.get(f"http://127.0.0.1:{port}", timeout=5)


def silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        requests.get(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=0.1)


def answered(status: int) -> None:
    answer = requests.Response()
    answer.status_code = status
    answer.raise_for_status()


def fails(error: BaseException) -> None:
    raise error


def causes_itself() -> None:
    error = OSError("image file is truncated")
    raise error from error


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (refused, TrainerError),
        (silent, TrainerError),
        (partial(answered, 503), TrainerError),
        (partial(answered, 404), ConfigError),
        (partial(fails, HTTPError("", 429, "later", Message(), None)), TrainerError),
        (partial(fails, HTTPError("", 403, "no", Message(), None)), ConfigError),
        (partial(fails, URLError(socket.gaierror(socket.EAI_AGAIN, "again"))), TrainerError),
        (partial(fails, ssl.SSLError(1, "bad record")), TrainerError),
        (partial(fails, ssl.SSLCertVerificationError(1, "self-signed")), ConfigError),
        (partial(fails, OSError(errno.EIO, "disk")), TrainerError),
        (partial(fails, FileNotFoundError(errno.ENOENT, "none", "x.png")), ConfigError),
        (partial(fails, KeyError("x")), ConfigError),
        (causes_itself, ConfigError),
    ],
)
def test_what_may_go_well_another_time_is_no_wrong_usage(
    code: Callable[[], None], kind: type[Exception]
) -> None:
    with pytest.raises(TrainerError, match="the loader raised") as raised, user_code("the loader"):
        code()
    assert type(raised.value) is kind
