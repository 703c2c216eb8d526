"""What looks like a credential is refused and never shown."""

import pytest

from trainer.config.credentials import check_tree, looks_secret
from trainer.errors import ConfigError


@pytest.mark.parametrize(
    "text",
    [
        "https://user:pw@host/path",
        "gs://user@bucket/x",
        "user:pw@host/db",
        "https://h/x?X-Goog-Signature=abc",
        "ghp_0123456789abcdefgh",
        "AKIAIOSFODNN7EXAMPLE",
        "hf_abcdefghijklmnop",
        "-----BEGIN RSA PRIVATE KEY-----",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
    ],
)
def test_form_of_a_credential(text):
    assert looks_secret(text)


@pytest.mark.parametrize(
    "text",
    ["runs/local", "gs://bucket/run", "train[:90%]", "package.module:recipe", "a@b", "team 7: x@y",
     "task-specific", "/data/user@host/run"],
)  # fmt: skip
def test_form_of_no_credential(text):
    assert not looks_secret(text)


@pytest.mark.parametrize(
    "key", ["password", "db_password", "api_key", "API-KEY", "token", "auth_token", "aws_secret"]
)
def test_key_of_a_credential(key):
    with pytest.raises(ConfigError) as caught:
        check_tree({"callbacks": [{"args": {key: "hunter2"}}]}, "run.yaml")
    assert str(caught.value).startswith(f"run.yaml: 'callbacks[0].args.{key}' looks like")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["pad_token", "mask_token", "num_tokens", "keys", "secretary"])
def test_key_of_no_credential(key):
    check_tree({"params": {key: "<x>"}}, "run.yaml")


def test_a_key_may_be_a_credential_itself():
    with pytest.raises(ConfigError) as caught:
        check_tree({"params": {"u:hunter2@host": 1}}, "run.yaml")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_must_be_finite(value):
    with pytest.raises(ConfigError, match=r"'train\.grace_seconds' is (nan|inf)"):
        check_tree({"train": {"grace_seconds": value}}, "run.yaml")
