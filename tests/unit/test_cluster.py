import json

import pytest

from trainer.cluster import ClusterInfo, read_cluster, tf_config
from trainer.errors import ConfigError

TWO = ("a:1", "b:2")


def config(cluster, kind="worker", index=0):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}


@pytest.mark.parametrize(
    ("environ", "cluster"),
    [
        ({}, ClusterInfo()),
        ({"TF_CONFIG": ""}, ClusterInfo()),
        ({"TF_CONFIG": "{}"}, ClusterInfo()),
        (config({"worker": ["a:1"]}), ClusterInfo()),
        (config({"worker": TWO}, index=1), ClusterInfo(1, 2, "a", TWO)),
        ({"TF_CONFIG": tf_config(TWO, 1)}, ClusterInfo(1, 2, "a", TWO)),
        (config({"chief": ["a:1"], "worker": ["b:2"]}), ClusterInfo(1, 2, "a", TWO)),
        (config({"worker": ["b:2"], "chief": ["a:1"]}, "chief"), ClusterInfo(0, 2, "a", TWO)),
        ({"JOB_COMPLETION_INDEX": "3"}, ClusterInfo()),
        (
            {"TRAINER_NUM_WORKERS": "4", "JOB_COMPLETION_INDEX": "3", "TRAINER_LEADER": "demo-0"},
            ClusterInfo(3, 4, "demo-0"),
        ),
        (
            {
                "TRAINER_NUM_WORKERS": "2", "TRAINER_WORKER_INDEX": "0",
                "TRAINER_LEADER": "127.0.0.1:7000",
            },
            ClusterInfo(0, 2, "127.0.0.1:7000"),
        ),
        ({"TRAINER_NUM_WORKERS": "1"}, ClusterInfo()),
    ],
)  # fmt: skip
def test_the_environment_says_which_worker_this_is(environ, cluster):
    assert read_cluster(environ) == cluster


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"TF_CONFIG": "{"}, "not a JSON object"),
        ({"TF_CONFIG": "[]"}, "not a JSON object"),
        ({"TF_CONFIG": '{"cluster": {"worker": 5}}'}, "not a JSON object"),
        (config({"worker": TWO, "ps": ["c:3"]}), "tasks of type ps"),
        (config({"worker": TWO}, index=2), "task worker 2, which is none of the 2"),
        (config({"worker": TWO}, "evaluator"), "task evaluator 0"),
        (config({"worker": ["a:1", "b"]}), "'b': write each worker as host:port"),
        ({"TRAINER_NUM_WORKERS": "two"}, "TRAINER_NUM_WORKERS is 'two'"),
        ({"TRAINER_NUM_WORKERS": "2"}, "says which worker this is"),
        ({"TRAINER_NUM_WORKERS": "2", "TRAINER_WORKER_INDEX": "2"}, "a number from 0 to 1"),
        ({"TRAINER_NUM_WORKERS": "2", "TRAINER_WORKER_INDEX": "1"}, "TRAINER_LEADER is not set"),
    ],
)
def test_a_contradiction_is_refused(environ, message):
    with pytest.raises(ConfigError, match=message):
        read_cluster(environ)
