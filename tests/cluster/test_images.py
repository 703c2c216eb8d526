"""An archive of one program's image, as `docker save` writes it."""

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from k8s.cluster.images import Image, linked_files, write_archive


@pytest.fixture
def archive(tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    write_archive(Image("localhost/one:1", program, "/bin/one"), tmp_path / "one.tar")
    return tmp_path / "one.tar"


def test_the_layer_is_the_one_that_is_named(archive):
    with tarfile.open(archive) as tar:
        (manifest,) = json.load(tar.extractfile("manifest.json"))
        configuration = json.load(tar.extractfile(manifest["Config"]))
        layers = [tar.extractfile(name).read() for name in manifest["Layers"]]
    digests = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    assert configuration["rootfs"]["diff_ids"] == digests
    assert manifest["RepoTags"] == ["localhost/one:1"]
    assert configuration["config"]["Entrypoint"] == ["/bin/one"]


def test_the_program_can_be_run_by_anybody(archive, tmp_path):
    with tarfile.open(archive) as tar:
        tar.extract("layer.tar", tmp_path, filter="data")
    with tarfile.open(tmp_path / "layer.tar") as layer:
        assert layer.getnames() == ["bin/one"]
        assert layer.getmember("bin/one").mode & 0o005 == 0o005


@pytest.mark.skipif(not shutil.which("ldd"), reason="ldd is of Linux")
def test_libraries_are_found():
    found = linked_files(Path(shutil.which("ls")))
    assert any(file.name.startswith("libc.so") for file in found)
    assert all(file.is_file() for file in found)


def test_a_script_is_linked_with_nothing(tmp_path):
    (tmp_path / "script").write_text("#!/bin/sh\n")
    assert linked_files(tmp_path / "script") == []
