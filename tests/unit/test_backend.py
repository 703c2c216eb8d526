"""Which backend the environment asks for, and what is refused of it."""

import pytest

from trainer.backend import backend_name, check_backend
from trainer.errors import ConfigError
from trainer.recipes.catalog import load_plain

JAX = {"KERAS_BACKEND": "jax"}


@pytest.mark.parametrize("environ", [{}, {"KERAS_BACKEND": ""}, {"KERAS_BACKEND": "tensorflow"}])
def test_tensorflow_is_the_default(environ):
    assert backend_name(environ) == "tensorflow"


def test_an_unknown_backend_is_refused():
    with pytest.raises(ConfigError, match="KERAS_BACKEND is 'jaxx': did you mean jax"):
        backend_name({"KERAS_BACKEND": "jaxx"})
    with pytest.raises(ConfigError, match="use one of tensorflow, jax, torch"):
        backend_name({"KERAS_BACKEND": "openvino"})


def test_a_missing_package_is_refused_with_the_extra_that_brings_it():
    # PyTorch is no requirement of development: it is large.
    with pytest.raises(ConfigError, match=r"torch, which is not installed.*\[cpu,torch\]"):
        backend_name({"KERAS_BACKEND": "torch"})


def test_what_the_environment_says_of_workers_is_refused():
    group = {"TRAINER_NUM_WORKERS": "3", "TRAINER_WORKER_INDEX": "1", "TRAINER_LEADER": "here"}
    config = load_plain("mnist")
    check_backend(config, environ=JAX)
    check_backend(config, environ=group)
    with pytest.raises(ConfigError, match=r"3 workers cannot train together.*start one"):
        check_backend(config, environ=JAX | group)


def test_a_trace_is_refused():
    traced = load_plain("mnist", ["train.profile.first=3"])
    check_backend(traced, environ={})
    with pytest.raises(ConfigError, match=r"train.profile does not work with KERAS_BACKEND=jax"):
        check_backend(traced, environ=JAX)
