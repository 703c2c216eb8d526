"""The one thing that the kernel does not remove by itself."""

from k8s.cluster.cgroups import groups, make_groups, remove_groups


def test_one_group_in_each_hierarchy_of_version_1(tmp_path):
    for name in ("cpu,cpuacct", "memory"):
        (tmp_path / name).mkdir()
    (tmp_path / "cpu").symlink_to("cpu,cpuacct")
    make_groups(tmp_path)
    made = sorted(str(group.relative_to(tmp_path)) for group in groups(tmp_path))
    assert made == ["cpu,cpuacct/trainer-cluster", "memory/trainer-cluster"]
    assert all(group.is_dir() for group in groups(tmp_path))


def test_one_group_with_all_controllers_of_version_2(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    (tmp_path / "cgroup.subtree_control").touch()
    make_groups(tmp_path)
    assert [group.name for group in groups(tmp_path)] == ["trainer-cluster"]
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory"


def test_removed_with_all_below(tmp_path):
    pod = tmp_path / "memory" / "trainer-cluster" / "kubepods" / "pod"
    pod.mkdir(parents=True)
    remove_groups(tmp_path)
    assert not list((tmp_path / "memory").iterdir())
    remove_groups(tmp_path)
