"""What is kept of an output or a reason has no secrets in it."""

from pathlib import Path

import pytest

from trainer.redaction import redacted, redacted_text


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (b"password is hunter22!", b"password is ***!"),
        (b"GET https://me:pa55@store.example/x", b"GET https://***@store.example/x"),
        (b"Authorization: Bearer eyJhbGci.Oi-J9_x", b"Authorization: Bearer ***"),
        (b"a\n-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END", b"a\n***"),
        (b"-----BEGIN PRIVATE KEY-----\nMII\nMII", b"***"),
        (b"wJ/9\nMII+\n-----END PRIVATE KEY-----\nb", b"***-----END PRIVATE KEY-----\nb"),
        (b"GET x?a=1&X-Goog-Signature=4f2e&b=2", b"GET x?a=1&X-Goog-Signature=***&b=2"),
        (b"GET x?access_token=ya29.a0 done", b"GET x?access_token=*** done"),
        (b"Authorization: Basic dXNlcjpwYXNz", b"Authorization: Basic ***"),
        (b"GET x?api_key=4f2e&b=2", b"GET x?api_key=***&b=2"),
        (b"pushed by ghp_0123456789abcdefghij", b"pushed by ***"),
        (b'{"password": "opensesame", "a": 1}', b'{"password": "***", "a": 1}'),
        (b"DB_PASSWORD=opensesame DB_USER=me", b"DB_PASSWORD=*** DB_USER=me"),
        (b'{"event": "a \\"quoted\\" one"}', b'{"event": "***"}'),
        (b"GET x?v=a%20%22quoted%22%20one", b"GET x?v=***"),
        (b"a basic classifier of words", b"a basic classifier of words"),
        (b"num_tokens=512 key=3 secretary", b"num_tokens=512 key=3 secretary"),
        (b"loss 0.5 at step 12", b"loss 0.5 at step 12"),
        (b"short and /dev/null", b"short and /dev/null"),
        (b"visible", b"visible"),
    ],
)
def test_what_is_secret_is_not_in_it(said: bytes, kept: bytes) -> None:
    environ = {
        "DB_PASSWORD": "hunter22", "QUOTED_SECRET": 'a "quoted" one', "A_TOKEN": "short",
        "KEY_FILE": "/dev/null", "HOME": "visible",
    }  # fmt: skip
    assert redacted(said, environ) == kept


def test_a_secret_that_begins_with_another_is_hidden_whole() -> None:
    environ = {"A_TOKEN": "opensesame", "B_TOKEN": "opensesame-and-more", "C_TOKEN": "opensesam"}
    assert redacted(b"by opensesame-and-more.", environ) == b"by ***."


@pytest.mark.parametrize(
    "secret", ["/9j4AAQSkZJRgABAQ==", "/" * 5000, "/opt/key\0s", "/\udcff\udcfe/secret"]
)
def test_a_secret_may_begin_as_a_path_does(secret: str) -> None:
    said = f"by {secret}."
    assert redacted_text(said, {"A_KEY": secret}) == "by ***."


def test_a_path_that_is_there_is_no_secret(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch()
    said = f"cannot read {key}, nor {tmp_path}/none"
    environ = {"KEY_FILE": str(key), "OTHER_KEY_FILE": f"{tmp_path}/none"}
    assert redacted_text(said, environ) == f"cannot read {key}, nor ***"


def test_a_text_that_is_no_utf_8_can_be_kept() -> None:
    assert redacted_text("no such file \udcff.txt", {}) == "no such file \ufffd.txt"
    assert redacted_text("half of a character: \ud83d", {}) == "half of a character: \ufffd"
