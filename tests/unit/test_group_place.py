"""What an agent brings to its group: its address, its secret and what others are compared by."""

import json
import os
from importlib.metadata import version

import pytest

import trainer
from trainer.agent import process
from trainer.agent.group_place import GroupPlace
from trainer.agent.process import WorkerProcess, spawn_worker
from trainer.cluster import ClusterInfo
from trainer.config import RunConfig
from trainer.errors import ConfigError

SECRET = "known to all agents of these tests"
LOCAL = ClusterInfo(1, 2, "127.0.0.1:8470")
ELSEWHERE = ClusterInfo(1, 2, "demo-0.demo.invalid")


def place(cluster=LOCAL, environ=(), **sections):
    given = {"train": {}, **sections}
    config = RunConfig.model_validate({
        "recipe": "fashion_mnist", "run": {"dir": "runs/x"},
        "data": {"url": "builtin:fashion_mnist", "train": "train", "batch_size": 32},
        **given, "train": {"epochs": 1, **given["train"]},
    })  # fmt: skip
    return GroupPlace(config, cluster, environ=dict(environ))


def test_an_offer_names_what_computes():
    offer = place(environ={"TRAINER_JOB_ID": "job-7"}).offer()
    assert (offer.index, offer.num_workers, offer.run, offer.job) == (1, 2, "runs/x", "job-7")
    assert offer.code_version.startswith(f"trainer {trainer.__version__}, tensorflow ")
    assert offer.code_version.endswith(f"keras {version('keras')}")


def test_pods_may_differ_in_how_they_log_and_are_scraped_and_in_nothing_else():
    mine, theirs = (
        place(log={"every_seconds": wait}, metrics={"port": port}, train={"seed": seed})
        .offer()
        .config
        for wait, port, seed in ((1, 9400, 1), (2, 9401, 2))
    )
    assert {key for key in mine if mine[key] != theirs[key]} == {"train.seed"}


@pytest.mark.parametrize(
    ("cluster", "environ", "host"),
    [
        (LOCAL, {}, "127.0.0.1"),
        (ELSEWHERE, {"TRAINER_HOST": "demo-1.demo"}, "demo-1.demo"),
        (LOCAL, {"TRAINER_HOST": "10.0.0.7"}, "10.0.0.7"),
    ],
    ids=["this machine", "as the pod says", "said before all"],
)
def test_the_others_find_this_worker_at(cluster, environ, host):
    found, _, port = place(cluster, environ).offer().address.rpartition(":")
    assert found == host
    # Every second port of the range: worker 0 of this machine looks among the others.
    assert int(port) in place().config.cluster.ports[1::2]


def test_a_leader_that_no_name_leads_to_yet_does_not_keep_this_worker_from_its_own_address():
    host, _, _ = place(ELSEWHERE).offer().address.rpartition(":")
    assert host.count(".") == 3


def test_a_secret_file_is_read_without_the_end_of_its_line(tmp_path):
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    assert place(environ={"TRAINER_GROUP_SECRET_FILE": str(file)}).secret == SECRET.encode()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read: [Errno 2]"),
        (b"\xff" * 40, "cannot be read: 'utf-8'"),
        (b"hush", "is too short: use 16 characters or more"),
    ],
    ids=["missing", "no text", "short"],
)
def test_a_secret_file_of_no_use_is_named_and_not_shown(tmp_path, text, says):
    file = tmp_path / "secret"
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(ConfigError) as error:
        place(environ={"TRAINER_GROUP_SECRET_FILE": str(file)}).secret  # noqa: B018
    assert f"TRAINER_GROUP_SECRET_FILE {file} {says}" in str(error.value)
    assert "hush" not in str(error.value)


def test_no_secret_at_all_is_said():
    with pytest.raises(ConfigError, match="2 workers need a secret to know each other by"):
        place().secret  # noqa: B018


def test_a_worker_gets_what_nccl_is_set_to_and_not_the_secret(tmp_path, monkeypatch):
    seen = tmp_path / "seen.json"
    program = tmp_path / "trainer"
    program.write_text(f"""
import json, os, pathlib
pathlib.Path({str(seen)!r}).write_text(json.dumps(dict(os.environ)))
""")
    for name, value in {
        "NCCL_DEBUG": "INFO", "NCCL_SOCKET_IFNAME": "eth0", "TRAINER_GROUP_SECRET": SECRET,
        "TRAINER_GROUP_SECRET_FILE": "/secret", "TF_CONFIG": "another's",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(process.sys, "argv", [str(program)])
    worker = WorkerProcess(spawn_worker, [], {"TF_CONFIG": "ours"})
    with worker.channel:
        assert worker.ended.result(60) == 0
    environ = json.loads(seen.read_text())
    assert environ["NCCL_DEBUG"] == "INFO"
    assert environ["NCCL_SOCKET_IFNAME"] == "eth0"
    assert environ["TF_CONFIG"] == "ours"
    assert not [name for name in environ if name.startswith("TRAINER_GROUP_SECRET")]
    assert environ["PATH"] == os.environ["PATH"]
