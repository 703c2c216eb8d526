"""Programs from locked modules: built once, and again when anything of a module changes."""

import pytest

from k8s.cluster import builds
from k8s.cluster.places import MODULES, ClusterError, Place


def test_every_module_is_locked_and_is_built():
    assert {folder.name for folder in MODULES.iterdir()} == set(builds.MINUTES)
    required = [folder for folder in MODULES.iterdir() if builds.versions(folder)]
    assert len(required) == len(builds.MINUTES) - 1  # pause needs nothing
    assert all((folder / "go.sum").stat().st_size > 10_000 for folder in required)


@pytest.mark.parametrize("file", ["go.mod", "go.sum"])
def test_fingerprint_changes_with_every_file(tmp_path, file):
    (tmp_path / "go.mod").write_text("module a\n")
    (tmp_path / "go.sum").write_text("")
    before = builds.fingerprint(tmp_path)
    assert before == builds.fingerprint(tmp_path)
    (tmp_path / file).write_text("module b\n")
    assert builds.fingerprint(tmp_path) != before


def test_kubernetes_knows_its_version():
    flags = builds.link_flags(MODULES / "kubernetes")
    assert "-X k8s.io/component-base/version.gitVersion=v1.35.1" in flags
    assert "-X k8s.io/client-go/pkg/version.gitMinor=35" in flags
    assert builds.link_flags(MODULES / "coredns") == "-s -w"


def test_nothing_is_built_again(tmp_path):
    place, said = Place(tmp_path), []
    for folder in builds.program_folders(place):
        folder.mkdir(parents=True)
    folders = builds.build_programs(place, said.append)
    assert not said
    assert all(folder.is_dir() for folder in folders)


def test_without_go(tmp_path, monkeypatch):
    monkeypatch.setattr(builds.shutil, "which", lambda name: None)
    with pytest.raises(ClusterError, match=r"install Go .* or set KUBECONFIG"):
        builds.build_programs(Place(tmp_path), print)
