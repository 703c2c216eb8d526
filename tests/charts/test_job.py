"""The Job: its name, policy, pods, and what the pods are told."""

import math

import pytest

from tests.charts.rendered import GROUP, ONE, arguments, environ, merged, objects, pod_of, refusal
from trainer import __version__
from trainer.config import field_kinds, load_config
from trainer.config.models import RunConfig
from trainer.environment import check_environment

CLAIM = {"claimName": "runs", "mountPath": "/runs"}


def job(values, **options):
    return objects(values, **options)["Job"]


def name(values, **options):
    return job(values, **options)["metadata"]["name"]


def test_it_is_an_indexed_job_of_so_many_pods():
    spec = job(GROUP)["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["suspend"] is False
    assert "ttlSecondsAfterFinished" not in spec


@pytest.mark.parametrize(("restarts", "limit"), [(None, 9), (0, 0), (5, 15)])
def test_the_back_off_limit_is_what_workers_may_fail(restarts, limit):
    values = GROUP if restarts is None else merged(GROUP, config__run__max_restarts=restarts)
    assert job(values)["spec"]["backoffLimit"] == limit


def test_deadlines_are_whole_numbers_however_large():
    spec = job(merged(ONE, activeDeadlineSeconds=31_536_000, ttlSecondsAfterFinished=86_400))
    assert spec["spec"]["activeDeadlineSeconds"] == 31_536_000
    assert spec["spec"]["ttlSecondsAfterFinished"] == 86_400


@pytest.mark.parametrize("grace", [10.0, 12.5, 300])
def test_a_pod_is_given_more_time_than_its_last_save(grace):
    values = merged(ONE, config__train__grace_seconds=grace, config__run__lease_seconds=300)
    seconds = pod_of(job(values))["terminationGracePeriodSeconds"]
    # The agent's own margin is 2 s, and then it gives the run back.
    assert math.ceil(grace) + 10 < seconds < grace + 30


def test_pods_know_which_worker_they_are():
    found = job(GROUP)
    told = environ(found)
    prefix = found["metadata"]["name"]
    assert told == {
        "TRAINER_JOB_ID": "metadata.labels['batch.kubernetes.io/controller-uid']",
        "TRAINER_TERMINATION_LOG": "/dev/termination-log",
        "TRAINER_NUM_WORKERS": "3",
        "TRAINER_WORKER_INDEX": "metadata.annotations['batch.kubernetes.io/job-completion-index']",
        "TRAINER_HOST": f"{prefix}-$(TRAINER_WORKER_INDEX).demo",
        "TRAINER_LEADER": f"{prefix}-0.demo",
        "TRAINER_GROUP_SECRET_FILE": "/etc/trainer-gathering/secret",
    }
    check_environment(told)
    # A variable refers only to those before it.
    assert list(told).index("TRAINER_WORKER_INDEX") < list(told).index("TRAINER_HOST")
    assert pod_of(found)["subdomain"] == objects(GROUP)["Service"]["metadata"]["name"] == "demo"


def test_one_worker_needs_no_other_and_no_secret():
    found = job(ONE)
    assert environ(found).keys() == {
        "TRAINER_JOB_ID", "TRAINER_TERMINATION_LOG", "TRAINER_NUM_WORKERS",
    }  # fmt: skip
    assert "gathering" not in str(pod_of(found))


def test_the_secret_is_for_the_pods_group_alone():
    values = merged(GROUP, gathering__key="token")
    (volume,) = [one for one in pod_of(job(values))["volumes"] if one["name"] == "gathering"]
    assert volume["secret"] == {
        "secretName": "known", "defaultMode": 0o440, "items": [{"key": "token", "path": "secret"}],
    }  # fmt: skip
    assert pod_of(job(values))["securityContext"]["fsGroup"] == 10001


def test_what_a_pod_adds_to_the_configuration():
    assert arguments(job(ONE)) == [
        "train", "--config=/etc/trainer/run.yaml", "--set=run.dir=gs://bucket/runs/ml/demo",
        "--set=metrics.address=0.0.0.0",
    ]  # fmt: skip


def run_name(tmp_path, release, **run):
    """As alerts call the run of a release with these keys of `config.run`."""
    found = objects(merged(ONE, config__run=run), release=release)
    (text,) = found["ConfigMap"]["data"].values()
    (tmp_path / "run.yaml").write_text(text)
    sets = [word[6:] for word in arguments(found["Job"]) if word.startswith("--set=")]
    return load_config(tmp_path / "run.yaml", sets).run_name


@pytest.mark.parametrize("release", ["left", "right", "on", "null", "a" * 53])
def test_a_run_is_called_as_its_release_which_a_namespace_has_once(tmp_path, release):
    assert run_name(tmp_path, release) == release
    assert run_name(tmp_path, release, dir=f"gs://b/{release}/train") == release
    assert run_name(tmp_path, release, dir="gs://b/train", name="mine") == "mine"
    assert field_kinds(RunConfig)["run.name"] == "free"


def test_what_the_configuration_says_is_left_alone():
    values = merged(
        ONE, config__run={"dir": "gs://other/run", "name": "mine"}, config__metrics__address="::",
        config__cluster__device="cpu", config__cluster__replicas=4, gpu__count=2,
        allowChange=["params.learning_rate"],
    )  # fmt: skip
    assert arguments(job(values)) == [
        "train", "--config=/etc/trainer/run.yaml", "--allow-change=params.learning_rate",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image__repository": ""}, "make image push IMAGE=REGISTRY/trainer"),
        ({"run__base": ""}, "--set run.base=gs://BUCKET/runs"),
        ({"run__base": "/runs"}, "would live in /runs, which a pod loses with itself"),
        ({"config__run__dir": "runs/x"}, "would live in runs/x, which a pod loses with itself"),
        ({"workers": 5}, "data.streams 12 cannot be shared by 5 workers"),
        ({"config__metrics__port": 0}, "config.metrics.port 0 is any port"),
        ({"config__run__lease_seconds": 14}, "use 15 or more"),
        ({"labels": {"helm.sh/chart": "x"}}, "labels: helm.sh/chart is a label that the chart"),
        ({"podLabels": {"app.kubernetes.io/instance": "x"}}, "podLabels: app.kubernetes.io/inst"),
        ({"podMonitor__labels": {"app.kubernetes.io/name": "x"}}, "podMonitor.labels: app.kube"),
        ({"config__metrics__address": "localhost"}, "config.metrics.address localhost is reached"),
        ({"config__metrics__port": 20500}, "20500 is one of config.cluster.port_range 20000-20999"),
        ({"config__data__batch_size": 100}, "config.data.batch_size 100 cannot be split over 12"),
        ({"config__cluster__min_workers": 4}, "config.cluster.min_workers 4 is more than the 3"),
        ({"podMonitor__enabled": True, "config__metrics__enabled": False}, "no page to scrape"),
        ({"claims": [CLAIM | {"mountPath": "/tmp/"}]}, "/tmp would be mounted twice"),
        ({"claims": [CLAIM | {"mountPath": "/etc/trainer-gathering"}]}, "would be mounted twice"),
        ({"extraEnv": [{"name": "TRAINER_HOST", "value": "x"}]}, "TRAINER_HOST is the chart's"),
        ({"recipe__source": "x", "config__recipe": "trainer:recipe"}, "would hide the trainer"),
        ({"recipe__source": "x", "config__recipe": "numpy:recipe"}, "would hide the numpy"),
        ({"gathering__existingSecret": "demo-group"}, "demo-group is the chart's own secret"),
        ({"image__repository": "r.example/t:0.1.0"}, "t:0.1.0 is no name of an image"),
        (
            {"image__repository": "https://r.example/t"},
            "https://r.example/t is no name of an image",
        ),
        ({"config__cluster__port_range": "30000-20000"}, "30000-20000 must be FIRST-LAST"),
        ({"config__cluster__port_range": "20000-70000"}, "20000-70000 must be FIRST-LAST"),
        ({"config__cluster__port_range": "20000-20001-20002"}, "must be FIRST-LAST"),
        ({"config__cluster__port": 20005}, "config.cluster.port 20005 is one of"),
        ({"config__cluster__port": 9400}, "config.metrics.port 9400 is also config.cluster.port"),
        ({"volumes": [{"name": "tmp", "emptyDir": {}}]}, "two volumes are called tmp"),
        ({"volumeMounts": [{"name": "x", "mountPath": "/x"}]}, "there is no volume x"),
        ({"config__run__dir": "gs://"}, "would live in gs://"),
        ({"suspend": True, "kueue__queueName": "q"}, "kubectl --namespace ml patch workload NAME"),
        ({"recipe__source": "x = 1"}, 'config.recipe is "fashion_mnist"'),
    ],
)
def test_what_cannot_work_is_refused_with_the_way_out(changes, said):
    assert said in refusal(merged(GROUP, **changes))


@pytest.mark.parametrize(
    "key",
    [
        "networkPolicy__enabled", "gpu__resource", "sharedMemory__sizeLimit", "spot__label",
        "topologySpread__topologyKey", "image__pullPolicy", "serviceAccount__enabled",
        "tolerations", "securityContext", "podSecurityContext", "run__base",
    ],
)  # fmt: skip
def test_a_value_set_to_null_has_the_schemas_answer(key):
    said = refusal(merged(GROUP, **{key: None}))
    assert f"missing property '{key.rpartition('__')[2]}'" in said


@pytest.mark.parametrize("variable", [{"name": "A", "value": 1}, {"name": "A", "val": "1"}])
def test_a_variable_is_a_name_and_a_text(variable):
    assert "/extraEnv/0" in refusal(merged(GROUP, extraEnv=[variable])).replace(".", "/")


def test_zero_seconds_after_its_end_are_not_for_ever():
    assert job(merged(ONE, ttlSecondsAfterFinished=0))["spec"]["ttlSecondsAfterFinished"] == 0


SCRATCH = {"volumes": [{"name": "scratch", "emptyDir": {}}]}


@pytest.mark.parametrize(
    ("base", "more"),
    [
        ("/tmp/runs", {"claims": [CLAIM]}),
        ("/runsome", {"claims": [CLAIM]}),
        ("/runs/../tmp", {"claims": [CLAIM]}),
        ("/runs", {"claims": [CLAIM | {"readOnly": True}]}),
        ("/s/r", SCRATCH | {"volumeMounts": [{"name": "scratch", "mountPath": "/s"}]}),
        ("/runs/s", SCRATCH | {"claims": [CLAIM],
                               "volumeMounts": [{"name": "scratch", "mountPath": "/runs/s"}]}),
    ],
)  # fmt: skip
def test_a_folder_that_no_volume_keeps_is_refused(base, more):
    said = refusal(merged(ONE, run__base=base, **more))
    assert f"would live in {base}, which a pod loses" in said


@pytest.mark.parametrize(
    "more",
    [
        {"claims": [CLAIM, {"claimName": "data", "mountPath": "/", "readOnly": True}]},
        {"volumes": [{"name": "nfs", "nfs": {"server": "s", "path": "/"}}],
         "volumeMounts": [{"name": "nfs", "mountPath": "/runs/"}]},
    ],
)  # fmt: skip
def test_a_folder_that_a_volume_keeps(more):
    values = merged(ONE, config__run__dir="/runs/mine", **more)
    assert "run.dir" not in str(arguments(job(values)))


def test_a_changed_template_has_another_name_since_a_job_cannot_change():
    names = [
        name(GROUP),
        name(merged(GROUP, workers=4)),
        name(merged(GROUP, resources__requests={"cpu": 3})),
        name(merged(GROUP, config__train__epochs=13)),
        name(merged(GROUP, image__tag="other")),
        name(merged(GROUP, allowChange=["train.validate_every"])),
        name(merged(GROUP, kueue__queueName="q")),
        name(merged(GROUP, kueue__queueName="other")),
    ]
    assert len(set(names)) == len(names)
    assert all(one.startswith("demo-") for one in names)


@pytest.mark.parametrize(
    "changes", [{"suspend": True}, {"labels": {"a": "b"}}, {"networkPolicy__enabled": False},
                {"ttlSecondsAfterFinished": 5}, {"activeDeadlineSeconds": 9}],
)  # fmt: skip
def test_what_may_change_leaves_the_name(changes):
    assert name(merged(GROUP, **changes)) == name(GROUP)


def test_names_of_pods_fit_into_a_label():
    # The longest release's: of a JobSet with the largest index, and what its webhook adds to that.
    values = merged(GROUP, workload__kind="JobSet")
    workload = objects(values, release="a" * 53)["JobSet"]["metadata"]["name"]
    assert len(f"{workload}-worker-0-4095-abcde") == 63
    assert name(GROUP, release="a" * 53) != name(GROUP, release="a" * 52)


@pytest.mark.parametrize("release", ["1st", "a.b"])
def test_a_release_whose_name_no_service_may_have(release):
    assert f'the release\'s name "{release}"' in refusal(GROUP, release=release)


def test_suspended_or_queued():
    assert job(merged(ONE, suspend=True))["spec"]["suspend"] is True
    queued = job(merged(ONE, kueue__queueName="training"))
    assert "suspend" not in queued["spec"]
    assert queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "training"
    assert "kueue.x-k8s.io/queue-name" not in job(ONE)["metadata"]["labels"]


def test_ready_is_who_trains_and_nothing_else_kills():
    (container,) = pod_of(job(ONE))["containers"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
    assert container["ports"] == [
        {
            "name": "metrics",
            "containerPort": RunConfig.model_fields["metrics"].default_factory().port,
        }
    ]
    assert "livenessProbe" not in container


def test_without_a_page_there_is_no_probe():
    (container,) = pod_of(job(merged(ONE, config__metrics__enabled=False)))["containers"]
    assert not {"readinessProbe", "ports"} & container.keys()


def test_gpus_and_spot_nodes():
    values = merged(ONE, gpu__count=2, gpu__type="nvidia-l4", spot__enabled=True)
    pod = pod_of(job(values))
    assert pod["containers"][0]["image"] == f"registry.example/trainer:{__version__}-gpu"
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "4Gi", "nvidia.com/gpu": 2}
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-accelerator": "nvidia-l4", "cloud.google.com/gke-spot": "true",
    }  # fmt: skip
    assert {one["key"] for one in pod["tolerations"]} == {
        "nvidia.com/gpu", "cloud.google.com/gke-spot",
    }  # fmt: skip
    assert arguments(job(values))[-2:] == ["--set=cluster.device=gpu", "--set=cluster.replicas=2"]


def test_by_default_pods_go_anywhere():
    fields = {"nodeSelector", "tolerations", "affinity", "priorityClassName",
              "topologySpreadConstraints", "imagePullSecrets"}  # fmt: skip
    assert not fields & pod_of(job(ONE)).keys()


def test_a_digest_is_taken_instead_of_a_tag():
    digest = f"sha256:{'0' * 64}"
    values = merged(ONE, image__digest=digest, image__pullSecrets=[{"name": "registry"}])
    pod = pod_of(job(values))
    assert pod["containers"][0]["image"] == f"registry.example/trainer@{digest}"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]


def test_claims_shared_memory_and_room():
    claims = [{"claimName": "runs", "mountPath": "/runs", "readOnly": True}]
    values = merged(ONE, claims=claims, sharedMemory__enabled=True, tmp__sizeLimit="2Gi")
    pod = pod_of(job(values))
    volumes = {one.pop("name"): one for one in pod["volumes"]}
    mounts = {one["name"]: one["mountPath"] for one in pod["containers"][0]["volumeMounts"]}
    assert volumes["claim-0"] == {"persistentVolumeClaim": {"claimName": "runs", "readOnly": True}}
    assert volumes["shared-memory"] == {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}
    assert volumes["tmp"] == {"emptyDir": {"sizeLimit": "2Gi"}}
    assert mounts == {
        "config": "/etc/trainer", "tmp": "/tmp", "claim-0": "/runs", "shared-memory": "/dev/shm",
    }  # fmt: skip


def test_variables_of_ones_own():
    values = merged(ONE, extraEnv=[{"name": "A", "value": "1"}], extraEnvFrom=[{"secretRef": {}}])
    found = job(values)
    assert environ(found)["A"] == "1"
    assert pod_of(found)["containers"][0]["envFrom"] == [{"secretRef": {}}]


def test_no_link_to_a_service_and_no_token():
    pod = pod_of(job(ONE))
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
