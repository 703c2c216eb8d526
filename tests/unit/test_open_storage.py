"""Storage by URL: which folders can be named, and that nothing secret is shown."""

from pathlib import Path

import pytest

from trainer.errors import ConfigError
from trainer.storage import open_storage


@pytest.mark.parametrize(
    "form", ["{}/a b", "file://{}/a%20b", "file://localhost{}/a%20b", "FILE://{}/a b"]
)
def test_open_storage_on_a_local_folder(tmp_path: Path, form: str) -> None:
    storage = open_storage(form.format(tmp_path))
    assert storage.url == str(tmp_path / "a b")
    assert open_storage(storage.url).url == storage.url


def test_the_root_keeps_its_meaning_when_the_working_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = open_storage("runs/demo")
    monkeypatch.chdir("/")
    storage.write("a", b"")
    assert (tmp_path / "runs/demo/a").exists()
    assert storage.url == str(tmp_path / "runs/demo")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gs:///run", "must name a bucket"),
        ("gs:bucket/run", "must name a bucket"),
        ("gs://Bucket/run", "must name a bucket"),
        ("gs://bucket/a//b", "object path 'a//b' is refused"),
        ("gs://bucket/../x", "is refused"),
        ("gs://bucket/run#12", "no query, fragment or generation"),
        ("s3://bucket/run", "s3:// storage is not supported"),
        ("file://host/run", "must name this host"),
        ("gs://user:pw@bucket/run", "holds a user name or a password"),
        ("file://user:pw@localhost/run", "holds a user name or a password"),
        ("file:run", "must name this host"),
        ("file:///a?b", "no query"),
        ("file:///a/%ff", "not UTF-8"),
        ("", "names no folder"),
        ("a\0b", "names no folder"),
        ("file:///a%00b", "names no folder"),
        ("../run", "holds '..'"),
        ("/runs/../etc", "holds '..'"),
        ("file:///runs/%2e%2e/etc", "holds '..'"),
        ("/runs\\x", "backslash"),
        ("~/runs", "write the whole path"),
    ],
)
def test_f69_urls_that_are_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_storage(url)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "gs://user:hunter2@bucket/run", "gs://user:hun/hunter2@bucket", "s3://hunter2:@bucket",
        "file://user:hunter2@host/run", "https://host/run?token=hunter2", "user:hunter2@host/run",
        "hunter2@host:run", "//user:hunter2@host/run", "hunter2:x", "gs://b/run?hunter2",
    ],
)  # fmt: skip
def test_f70_secrets_of_a_url_are_never_shown(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_storage(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [("gs://bucket", "gs://bucket"), ("gs://bucket/a/b/", "gs://bucket/a/b"), ("GS://b.c", None)],
)
def test_a_bucket_and_its_prefix(url: str, shown: str | None) -> None:
    assert open_storage(url).url == (shown or "gs://b.c")
