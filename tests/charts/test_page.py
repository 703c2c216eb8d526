"""docs/kubernetes.md, command by command: charts take them, and the names they use are there."""

import re
import shlex
from string import Template

import pytest
import yaml

from tests.charts.rendered import (
    KUBERNETES,
    ONE,
    POD_MONITOR,
    PROMETHEUS_RULE,
    ROOT,
    helm,
    job_of,
    notes,
)

PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
NAMES = {"PROJECT": "my-project", "REGION": "europe-west4", "BUCKET": "my-bucket"}
FLAGS = {"--namespace", "--values", "--set", "--set-json", "--set-file", "--api-versions"}
# What Kubernetes itself puts on a pod of an Indexed Job.
OF_THE_JOB = {"batch.kubernetes.io/job-completion-index"}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


def commands(program):
    """The words of each of its commands on the page."""
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    found = [line for line in lines if line.startswith(f"{program} ")]
    return [shlex.split(Template(line).safe_substitute(NAMES)) for line in found]


OURS = [words for words in commands("helm") if any(w.startswith("helm/") for w in words)]


def options(words):
    """Flag and value of each of a command's options."""
    pairs = zip(words, [*words[1:], ""], strict=True)
    return [(flag, value) for flag, value in pairs if flag.startswith("--")]


@pytest.fixture
def rendered(tmp_path):
    """What a command of the page makes: its objects, with a secret that is there already."""
    (tmp_path / "my.yaml").write_text(blocks("yaml")[0])
    (tmp_path / "script.yaml").write_text(blocks("yaml")[1])
    (tmp_path / "train.py").write_text("import trainer\n")
    (tmp_path / "my_recipe.py").write_text("recipe = None\n")

    def render(words):
        _, _, release, chart, *_ = words
        is_run = chart == "helm/trainer"
        given = [flag for flag, _ in options(words)]
        kept = {}
        if "--reset-then-reuse-values" in given:
            kept = {
                "image": {"repository": "registry.example/trainer"},
                "run": {"base": "gs://b/r"},
            }
        if is_run and "--reset-then-reuse-values" in given:
            kept |= yaml.safe_load(blocks("yaml")[0])
        if is_run:
            kept["gathering"] = {"existingSecret": "known"}
        more = [f"{flag}={files(flag, value)}" for flag, value in options(words) if flag in FLAGS]
        if words[1] == "template":
            more += [flag for flag in given if flag == "--skip-tests"]
        else:
            more += [f"--api-versions={api}" for api in (POD_MONITOR, PROMETHEUS_RULE)]
        kube = f"--kube-version={KUBERNETES}"
        result = helm("template", release, ROOT / chart, kube, *more, values=kept)
        assert result.returncode == 0, result.stderr
        return [one for one in yaml.safe_load_all(result.stdout) if one]

    def files(flag, value):
        if flag == "--values":
            return ROOT / value if (ROOT / value).exists() else tmp_path / value
        return re.sub(r"=(.*\.py)$", rf"={tmp_path}/\1", value) if flag == "--set-file" else value

    return render


def test_the_page_has_commands_of_each_kind():
    assert {words[1] for words in OURS} == {"install", "upgrade", "template"}
    assert len(OURS) == len([w for w in commands("helm") if "helm/" in " ".join(w)])
    assert len(OURS) >= 8
    assert len(commands("kubectl")) >= 8


@pytest.mark.parametrize("words", OURS, ids=lambda words: " ".join(words[1:4] + words[-2:]))
def test_the_chart_takes_the_command(rendered, words):
    found = rendered(words)
    assert found
    if words[3] == "helm/trainer":
        assert [one["metadata"]["namespace"] for one in found] == ["ml"] * len(found)


def test_what_is_rendered_for_a_repository_is_whole_and_no_test(rendered):
    run, monitoring = (
        {one["kind"] for one in rendered(words)} for words in OURS if words[1] == "template"
    )
    assert "PodMonitor" in run
    assert "Pod" not in run
    assert monitoring == {"PrometheusRule", "ConfigMap"}


def test_the_two_ways_to_bring_a_script_lead_to_the_command_of_the_page(rendered):
    scripts = [words for words in OURS if "script.yaml" in words]
    jobs = [one for words in scripts for one in rendered(words) if one["kind"] == "Job"]
    found = [" ".join(job_of(job)["template"]["spec"]["containers"][0]["args"]) for job in jobs]
    ends = [text.partition(" -- ")[2] for text in found]
    assert ends == ["/etc/trainer/train.py --rate 1e-3", "/app/train.py --rate 1e-3"]
    assert f"`trainer run -- {ends[0]}`" in PAGE


def test_the_two_ways_to_name_a_run_lead_to_one_folder(rendered):
    [config] = [one for one in rendered(OURS[0]) if one["kind"] == "Job"]
    arguments = job_of(config)["template"]["spec"]["containers"][0]["args"]
    assert any("gs://my-bucket/runs/ml/demo" in word for word in arguments)
    assert "`gs://my-bucket/runs/ml/demo`" in PAGE


POOL = r"iam[.]googleapis[.]com/[$]POOL"


def bound():
    """Namespace and account, or None for all, of those that may use the bucket."""
    text = " ".join(word for words in commands("gcloud") if "buckets" in words for word in words)
    accounts = re.findall(rf"--member=principal://{POOL}/subject/ns/([\w-]+)/sa/([\w-]+)", text)
    namespaces = re.findall(rf"--member=principalSet://{POOL}/namespace/([\w-]+)", text)
    return {*accounts, *((namespace, None) for namespace in namespaces)}


def test_a_release_is_run_by_an_account_that_may_use_the_bucket(rendered):
    runs = [words for words in OURS if words[3] == "helm/trainer"]
    jobs = [one for words in runs for one in rendered(words) if one["kind"] == "Job"]
    found = {
        (job["metadata"]["namespace"], job_of(job)["template"]["spec"]["serviceAccountName"])
        for job in jobs
    }
    assert {account for _, account in found} == {"demo", "mine"}
    assert not {one for one in found if not {one, (one[0], None)} & bound()}


def test_data_are_prepared_before_any_release_makes_an_account():
    job = yaml.safe_load((ROOT / "k8s/samples/data-preparation.yaml").read_text())
    # Which every namespace has.
    assert job["spec"]["template"]["spec"]["serviceAccountName"] == "default"
    assert {("ml", None), ("ml", "default")} & bound()
    [wait] = [words for words in commands("kubectl") if "wait" in words]
    assert wait[-1] == f"job/{job['metadata']['name']}"


def test_selectors_find_the_pods(rendered):
    [job] = [one for one in rendered(OURS[0]) if one["kind"] == "Job"]
    labels = job_of(job)["template"]["metadata"]["labels"]
    selectors = [
        dict(part.split("=") for part in value.split(","))
        for words in commands("kubectl") for flag, value in options(words) if flag == "--selector"
    ]  # fmt: skip
    assert len(selectors) >= 4
    for selector in selectors:
        assert {k: v for k, v in selector.items() if k not in OF_THE_JOB}.items() <= labels.items()


# kubectl follows five pods by default, and those that ended stay beside their successors.
MANY = "--max-log-requests=100"


def test_a_log_is_followed_however_often_its_pod_was_replaced():
    followed = [words for words in commands("kubectl") if "--follow" in words]
    assert len(followed) == 2
    assert all(MANY in words for words in followed)
    assert f"logs -f {MANY} -l app.kubernetes.io/instance=demo," in notes(ONE)


def test_the_secret_that_kubectl_makes_is_the_one_that_pods_read(rendered):
    name, key = secrets()["secret"]
    [template] = [words for words in OURS if words[1:3] == ["template", "demo"]]
    [job] = [one for one in rendered(template) if one["kind"] == "Job"]
    [volume] = [one for one in job_of(job)["template"]["spec"]["volumes"] if "secret" in one]
    assert (volume["secret"]["secretName"], volume["secret"]["items"][0]["key"]) == (name, key)


def test_the_secret_of_ones_own_is_given_to_the_pods(rendered):
    name, _ = secrets()["SERVICE_TOKEN"]
    [upgrade] = [words for words in OURS if any("extraEnvFrom" in word for word in words)]
    [job] = [one for one in rendered(upgrade) if one["kind"] == "Job"]
    [container] = job_of(job)["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": name}}]


def secrets():
    """By key: the name and the key of each secret that kubectl is to make."""
    made = [words for words in commands("kubectl") if "secret" in words]
    found = [
        (words[words.index("generic") + 1], word.split("=")[1])
        for words in made for word in words if word.startswith("--from-literal")
    ]  # fmt: skip
    return {key: (name, key) for name, key in found}


def test_kubectl_is_asked_for_what_there_is(rendered):
    found = {(one["kind"].lower(), one["metadata"]["name"]) for one in rendered(OURS[0])}
    # Verbs whose next word is a kind.
    asked = {
        words[words.index(verb) + 1].removesuffix("s")
        for words in commands("kubectl") for verb in ("get", "describe", "delete") if verb in words
    }  # fmt: skip
    assert asked == {"pod", "job"}
    assert asked <= {kind for kind, _ in found}
    deleted = re.findall(r"`kubectl delete (\w+) (\S+)`", PAGE)
    assert deleted
    assert set(deleted) <= found


def test_files_and_targets_that_it_names_are_there():
    named = re.findall(r"`((?:k8s|helm)/[\w./-]+)`", PAGE)
    assert len(named) >= 5
    assert not [name for name in named if not (ROOT / name).exists()]
    targets = re.findall(r"^([\w-]+(?: [\w-]+)*):", (ROOT / "Makefile").read_text(), re.M)
    known = {name for line in targets for name in line.split()}
    for words in commands("make"):
        assert {word for word in words[1:] if "=" not in word} <= known


def test_kind_is_given_the_image_that_the_chart_takes(rendered):
    [load] = [words for words in commands("kind") if words[1] == "load"]
    [install] = [words for words in OURS if "image.repository=trainer" in words]
    found = {one["kind"]: one for one in rendered(install)}
    pod = found["Job"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == load[3]
    cluster = yaml.safe_load((ROOT / "k8s/kind.yaml").read_text())["name"]
    assert load[4:] == ["--name", cluster]
    claim = yaml.safe_load((ROOT / "k8s/samples/claim.yaml").read_text())["metadata"]["name"]
    assert claim in [
        volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod["volumes"]
    ]


def test_values_that_it_names_are_there():
    """In `code`, as `gpu.count`; keys of the trainer's configuration stand in its own schema."""
    rows = (ROOT / "helm/trainer/README.md").read_text()
    rows += (ROOT / "helm/trainer-monitoring/README.md").read_text()
    values = set(re.findall(r"^\| ([\w.]+) \|", rows, re.M))
    tops = {value.split(".")[0] for value in values} - {"config"}
    named = {
        name for name in re.findall(r"`([a-z]\w*(?:\.\w+)+)`", PAGE) if name.split(".")[0] in tops
    }
    run_keys = {name for name in named if name.startswith("run.")} - values
    configuration = (ROOT / "docs" / "configuration.md").read_text()
    assert all(f"`{name}`" in configuration for name in run_keys)
    unknown = {
        n for n in named - values - run_keys if not any(v.startswith(f"{n}.") for v in values)
    }
    assert not {n for n in unknown if not (ROOT / n).exists() and not n.endswith((".yaml", ".md"))}
