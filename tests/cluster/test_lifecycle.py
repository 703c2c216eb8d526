"""When a cluster is started, and when not."""

import os
import sys

import pytest

from k8s.cluster import lifecycle
from k8s.cluster.places import ClusterError, Place


@pytest.fixture
def nothing_set(monkeypatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)


def test_another_cluster_is_used(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KUBECONFIG", "/home/me/kind")
    lifecycle.up(Place(tmp_path))
    assert "using the cluster of KUBECONFIG=/home/me/kind" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_own_cluster_is_started_again(tmp_path, monkeypatch):
    place = Place(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(place.kubeconfig))  # of one that was removed
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ClusterError, match="started on Linux only"):
        lifecycle.up(place)


def test_not_on_a_mac(nothing_set, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ClusterError, match=r"Linux only; .* set KUBECONFIG"):
        lifecycle.up(Place(tmp_path))


def test_not_without_root(nothing_set, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match="takes root"):
        lifecycle.up(Place(tmp_path))


def test_down_on_nothing(tmp_path, capsys):
    lifecycle.down(Place(tmp_path))
    assert capsys.readouterr().out == "no cluster was running\n"


def test_load_into_nothing(tmp_path):
    with pytest.raises(ClusterError, match="no cluster is running: make cluster-up"):
        lifecycle.load(Place(tmp_path), "image.tar")
