"""All other templates: off by default or on, with their labels, and turned the other way."""

import os
import sys

import pytest
import yaml

from tests.charts.rendered import (
    GROUP,
    MONITORING,
    ONE,
    POD_MONITOR,
    PROMETHEUS_RULE,
    TRAINER,
    arguments,
    environ,
    job_of,
    merged,
    notes,
    objects,
    pod_of,
    refusal,
    rendered,
)
from trainer.config import load_config
from trainer.recipes.catalog import find_recipe

RUN = {"app.kubernetes.io/name": "trainer", "app.kubernetes.io/instance": "demo"}
WORKER = RUN | {"app.kubernetes.io/component": "worker"}
ALWAYS = {"ConfigMap", "Job", "NetworkPolicy", "Pod", "Service", "ServiceAccount"}
POLICY_PORTS = [{"port": 8470}, {"port": 20000, "endPort": 20999}]


def test_what_is_there_by_default():
    assert objects(ONE).keys() == ALWAYS
    assert objects(GROUP, "--api-versions", POD_MONITOR).keys() == ALWAYS


@pytest.mark.parametrize("kind", sorted(ALWAYS))
def test_every_object_is_labelled_as_the_runs(kind):
    found = objects(merged(ONE, labels={"team": "vision"}))[kind]["metadata"]
    assert found["namespace"] == "ml"
    assert found["labels"].items() >= (RUN | {"team": "vision"}).items()
    assert found["labels"]["helm.sh/chart"].startswith("trainer-")


def test_a_jobset_holds_the_same_job():
    found = objects(merged(GROUP, workload__kind="JobSet", suspend=True))
    jobset = found["JobSet"]
    assert "Job" not in found
    name = jobset["metadata"]["name"]
    assert jobset["spec"]["network"] == {
        "enableDNSHostnames": True, "publishNotReadyAddresses": True, "subdomain": "demo",
    }  # fmt: skip
    assert jobset["spec"]["suspend"] is True
    queued = objects(merged(GROUP, workload__kind="JobSet", kueue__queueName="q"))["JobSet"]
    assert queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "q"
    assert "suspend" not in queued["spec"]
    later = objects(merged(GROUP, workload__kind="JobSet", activeDeadlineSeconds=9))["JobSet"]
    assert later["metadata"]["name"] != name
    assert environ(jobset)["TRAINER_LEADER"] == f"{name}-worker-0-0.demo"
    assert environ(jobset)["TRAINER_HOST"] == f"{name}-worker-0-$(TRAINER_WORKER_INDEX).demo"
    assert environ(jobset)["TRAINER_JOB_ID"] == "metadata.labels['jobset.sigs.k8s.io/jobset-uid']"
    assert job_of(jobset)["podFailurePolicy"] == objects(GROUP)["Job"]["spec"]["podFailurePolicy"]
    inside = jobset["spec"]["replicatedJobs"][0]["template"]["metadata"]["labels"]
    assert inside.items() >= RUN.items()


def test_the_service_names_pods_that_are_not_ready():
    spec = objects(ONE)["Service"]["spec"]
    assert spec["clusterIP"] == "None"
    assert spec["publishNotReadyAddresses"] is True
    assert spec["selector"] == WORKER
    assert objects(ONE)["Job"]["spec"]["template"]["metadata"]["labels"] == WORKER


def test_the_configuration_is_handed_on_as_it_is(tmp_path):
    config = {
        "recipe": "fashion_mnist", "params": {"learning_rate": 1e-4},
        "data": {"url": "gs://b/d", "batch_size": 96, "streams": 12, "validation": None},
        "train": {"epochs": 10_000_000, "grace_seconds": 12.5},
        "checkpoint": {"every_epochs": None, "every_steps": 1_000_000},
        "run": {"dir": "gs://b/r", "name": "0123"},
        "metrics": {"labels": {"team": "on", "rate": "1e3"}},
    }  # fmt: skip
    (text,) = objects(ONE | {"config": config})["ConfigMap"]["data"].values()
    assert yaml.safe_load(text) == config
    (tmp_path / "run.yaml").write_text(text)
    read = load_config(tmp_path / "run.yaml")
    assert (read.checkpoint.every_epochs, read.train.epochs) == (None, 10_000_000)
    assert read.metrics.labels == {"team": "on", "rate": "1e3"}


def test_another_configuration_is_another_object():
    first, second = (objects(one)["ConfigMap"] for one in (ONE, merged(ONE, workers=2, **SECRET)))
    other = objects(merged(ONE, config__train__epochs=13))["ConfigMap"]
    assert first["immutable"] is True
    assert first["metadata"]["name"] == second["metadata"]["name"] != other["metadata"]["name"]
    volumes = pod_of(objects(ONE)["Job"])["volumes"]
    assert {"name": "config", "configMap": {"name": first["metadata"]["name"]}} in volumes


SECRET = {"gathering__existingSecret": "known"}


def test_a_recipe_of_ones_own_can_be_imported(tmp_path, monkeypatch):
    source = (
        "\n# é: \t tabs\nfrom trainer.recipes.fashion_mnist import recipe\n\n\nrecipe = recipe\n"
    )
    file = tmp_path / "of_the_test.py"
    file.write_text(source)
    values = merged(ONE, config__recipe="of_the_test:recipe")
    found = objects(values, f"--set-file=recipe.source={file}")
    data = found["ConfigMap"]["data"]
    assert data["of_the_test.py"] == source
    path = environ(found["Job"])["PYTHONPATH"]
    mounts = {one["mountPath"] for one in pod_of(found["Job"])["containers"][0]["volumeMounts"]}
    assert path.split(os.pathsep)[0] in mounts
    # As the pod's Python will find it.
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "of_the_test.py").write_text(data["of_the_test.py"])
    monkeypatch.syspath_prepend(mounted)
    assert find_recipe("of_the_test:recipe")
    assert sys.modules["of_the_test"].__file__ == str(mounted / "of_the_test.py")


def test_no_secret_without_a_cluster_that_could_have_one():
    said = refusal(merged(GROUP, gathering__existingSecret="", gathering__key="token"))
    assert "gathering.existingSecret is empty" in said
    assert "--dry-run=server" in said
    assert 'create secret generic demo-gathering --namespace ml --from-literal=token="$(' in said
    assert "--set gathering.existingSecret=demo-gathering" in said


def test_the_account_has_no_token():
    values = merged(ONE, serviceAccount__annotations={"iam.gke.io/gcp-service-account": "a@b"})
    account = objects(values)["ServiceAccount"]
    assert account["automountServiceAccountToken"] is False
    assert account["metadata"]["annotations"] == {"iam.gke.io/gcp-service-account": "a@b"}
    assert pod_of(objects(values)["Job"])["serviceAccountName"] == account["metadata"]["name"]


@pytest.mark.parametrize(("name", "used"), [("", "default"), ("shared", "shared")])
def test_an_account_that_is_there(name, used):
    found = objects(merged(ONE, serviceAccount={"enabled": False, "name": name}))
    assert "ServiceAccount" not in found
    assert pod_of(found["Job"])["serviceAccountName"] == used


def test_f73_the_network_is_closed_but_for_peers_and_scrapers():
    spec = objects(GROUP)["NetworkPolicy"]["spec"]
    assert spec["podSelector"] == {"matchLabels": WORKER}
    assert spec["policyTypes"] == ["Ingress"]
    peers, scrapers = spec["ingress"]
    assert peers == {"from": [{"podSelector": {"matchLabels": WORKER}}], "ports": POLICY_PORTS}
    test_pod = {"podSelector": {"matchLabels": RUN | {"app.kubernetes.io/component": "test"}}}
    monitoring = {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
    assert scrapers == {
        "from": [test_pod, {"namespaceSelector": monitoring}], "ports": [{"port": 9400}],
    }  # fmt: skip


def test_ports_are_those_of_the_configuration():
    values = merged(
        GROUP, config__cluster={"port": 8500, "port_range": "30000-30099"},
        config__metrics={"port": 9500}, networkPolicy__scraperNamespace="",
    )  # fmt: skip
    found = objects(values)
    peers, scrapers = found["NetworkPolicy"]["spec"]["ingress"]
    assert peers["ports"] == [{"port": 8500}, {"port": 30000, "endPort": 30099}]
    assert (scrapers["ports"], len(scrapers["from"])) == ([{"port": 9500}], 1)
    assert [one["port"] for one in found["Service"]["spec"]["ports"]] == [8500, 9500]


def test_nccl_takes_whatever_port_it_likes():
    peers = objects(merged(GROUP, gpu__count=1))["NetworkPolicy"]["spec"]["ingress"][0]
    assert peers == {"from": [{"podSelector": {"matchLabels": WORKER}}]}


def test_ways_out_are_open_unless_named():
    rule = {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}
    spec = objects(merged(GROUP, networkPolicy__egress=[rule]))["NetworkPolicy"]["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    peers, names, own = spec["egress"]
    assert peers == {"to": [{"podSelector": {"matchLabels": WORKER}}]}
    assert {one["port"] for one in names["ports"]} == {53}
    assert own == rule


def test_the_example_of_ways_out_leaves_the_metadata_server_open():
    values = yaml.safe_load((TRAINER / "ci" / "monitored-values.yaml").read_text())
    text = str(objects(values)["NetworkPolicy"]["spec"]["egress"])
    assert "169.254.169.254/32" in text
    assert "169.254.169.252/32" in text


def test_no_policy_and_no_page():
    found = objects(merged(ONE, networkPolicy__enabled=False, config__metrics__enabled=False))
    assert found.keys() == ALWAYS - {"NetworkPolicy", "Pod"}
    assert [one["name"] for one in found["Service"]["spec"]["ports"]] == ["gathering"]


def test_a_pod_monitor_only_where_there_is_its_api():
    unlabelled = merged(ONE, podMonitor={"enabled": True, "labels": None})
    assert "PodMonitor" in objects(unlabelled, "--api-versions", POD_MONITOR)
    values = merged(ONE, podMonitor={"enabled": True, "labels": {"release": "prometheus"}},
                    labels={"release": "of all", "team": "vision"})  # fmt: skip
    assert "PodMonitor" not in objects(values)
    found = objects(values, "--api-versions", POD_MONITOR)["PodMonitor"]
    labels = {"release": "prometheus", "team": "vision"}
    assert found["metadata"]["labels"].items() >= labels.items()
    assert found["spec"]["selector"] == {"matchLabels": WORKER}
    assert found["spec"]["podMetricsEndpoints"] == [{"port": "metrics", "interval": "15s"}]


def test_the_notes_say_how_to_start_what_is_suspended():
    said = "helm upgrade -n ml demo helm/trainer --reset-then-reuse-values --set suspend=false\n"
    assert said in notes(merged(ONE, suspend=True))
    assert said not in notes(ONE)


def test_the_notes_name_fractions_that_are_texts():
    params = {"rate": "0.001", "deep": {"decay": "1e-3"}, "name": "v1.5", "epochs": "3", "x": 0.5}
    said = notes(merged(ONE, config__recipe="mine.recipe:recipe", config__params=params))
    assert "--set-json 'config.params.rate=0.001'" in said
    assert "--set-json 'config.params.deep.decay=1e-3'" in said
    assert said.count("--set-json") == 2


def test_the_test_pod_is_a_stranger_that_looks_at_the_leader():
    found = objects(GROUP)
    pod = found["Pod"]
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert not pod["metadata"]["labels"].items() >= WORKER.items()
    leader = environ(found["Job"])["TRAINER_LEADER"]
    assert pod["spec"]["containers"][0]["args"] == [
        f"--page=http://{leader}:9400", f"--leader={leader}:8470", "--kept-out",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "count"), [(ONE, 2), (merged(GROUP, networkPolicy__enabled=False), 2)]
)
def test_the_test_pod_expects_what_is_there(values, count):
    assert len(objects(values)["Pod"]["spec"]["containers"][0]["args"]) == count


def leaves(node, path=()):
    """Every value and where it is."""
    if not isinstance(node, dict | list):
        yield path, node
        return
    for key, below in node.items() if isinstance(node, dict) else enumerate(node):
        yield from leaves(below, (*path, key))


# Each would be a number, nothing, a truth or a mapping without quotes.
ODD = {
    "claims": [{"claimName": "123", "mountPath": "/a: b"}], "allowChange": ["a: b", "c #d"],
    "gathering": {"existingSecret": "456", "key": "789"}, "networkPolicy__scraperNamespace": "12",
    "serviceAccount__name": "0x1", "run__base": "gs://b/a: b #c", "labels": {"a": "1", "b": "no"},
    "podMonitor": {"enabled": True, "labels": {"c": "on"}}, "podLabels": {"d": "null"},
    "kueue__queueName": "1e3",
}  # fmt: skip


JOBSET = merged(GROUP, workload__kind="JobSet", topologySpread__enabled=True)


@pytest.mark.parametrize("release", ["on", "null"])
@pytest.mark.parametrize(
    ("plain", "odd", "chart"),
    [(JOBSET, merged(JOBSET, **ODD), TRAINER), (GROUP, merged(GROUP, **ODD), TRAINER),
     ({}, {}, MONITORING)],
    ids=["jobset", "job", "monitoring"],
)  # fmt: skip
def test_a_text_stays_one_whatever_it_looks_like(plain, odd, chart, release):
    def no_texts(values, **options):
        words = [f"--api-versions={one}" for one in (POD_MONITOR, PROMETHEUS_RULE)]
        text = rendered(values, *words, chart=chart, **options)
        found = [leaf for one in yaml.safe_load_all(text) for leaf in leaves(one)]
        return {path[-1] for path, leaf in found if not isinstance(leaf, str)}

    assert no_texts(odd, namespace="2024", release=release) <= no_texts(plain)


def test_no_secret_is_ever_printed():
    assert "kind: Secret" not in rendered(GROUP)
    assert arguments(objects(GROUP)["Job"])[0] == "train"
