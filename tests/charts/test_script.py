"""A script in the place of a recipe: of the image, or mounted from the values."""

import pytest
import yaml
from click.testing import CliRunner

from tests.charts.rendered import (
    GROUP,
    ONE,
    arguments,
    environ,
    merged,
    notes,
    objects,
    pod_of,
    refusal,
)
from tests.e2e.kube import Kube
from tests.e2e.store import Store
from tests.e2e.values import SCRIPT, chart_values, script_values
from trainer.cli.root import trainer_command
from trainer.script.config import OF_FIT

MOUNTED = "/etc/trainer/train.py"
IN_IMAGE = merged(GROUP, config={}, script={"path": "/app/train.py", "args": ["--rate", "1e-3"]})
SOURCE = merged(GROUP, config={}, script={"source": "import trainer\n"})
# What is refused, in words that the schema lets through.
GIVEN = {
    "recipe": "fashion_mnist", "params": {}, "data": {"url": "x"}, "export": {}, "train.epochs": 3,
    "train.engine": "loop", "train.validate_every": 1, "train.start_from": "gs://bucket/other",
    "train.start_layers": "all",
}  # fmt: skip


def name(values):
    return objects(values)["Job"]["metadata"]["name"]


def test_the_command_runs_the_script_of_the_image():
    assert arguments(objects(IN_IMAGE)["Job"]) == [
        "run", "--config=/etc/trainer/run.yaml", "--set=run.dir=gs://bucket/runs/ml/demo",
        "--set=metrics.address=0.0.0.0", "--", "/app/train.py", "--rate", "1e-3",
    ]  # fmt: skip


def test_its_run_is_called_as_the_release_too():
    found = arguments(objects(merged(IN_IMAGE, config__run__dir="gs://b/a/train"))["Job"])
    assert found[:4] == [
        "run", "--config=/etc/trainer/run.yaml", "--set=run.name='demo'",
        "--set=metrics.address=0.0.0.0",
    ]  # fmt: skip


def test_a_source_is_mounted_as_it_is_where_the_command_says():
    found = objects(merged(GROUP, config={}), f"--set-file=script.source={SCRIPT}")
    assert found["ConfigMap"]["data"] == {"run.yaml": "{}", "train.py": SCRIPT.read_text()}
    assert arguments(found["Job"])[-2:] == ["--", MOUNTED]
    (mount,) = [
        one for one in pod_of(found["Job"])["containers"][0]["volumeMounts"]
        if one["name"] == "config"
    ]  # fmt: skip
    assert (mount["mountPath"], mount["readOnly"]) == ("/etc/trainer", True)
    assert "PYTHONPATH" not in environ(found["Job"])


def test_only_the_command_differs_from_a_recipes_job():
    recipes, scripts = (objects(one)["Job"]["spec"] for one in (GROUP, IN_IMAGE))
    assert scripts["podFailurePolicy"] == recipes["podFailurePolicy"]
    differ = {
        key
        for key, value in pod_of(objects(IN_IMAGE)["Job"])["containers"][0].items()
        if value != pod_of(objects(GROUP)["Job"])["containers"][0][key]
    }
    assert differ == {"args", "env"}  # the pods' names are in the variables
    assert objects(IN_IMAGE).keys() == objects(GROUP).keys()


def test_a_jobset_runs_it_alike():
    jobset = objects(merged(IN_IMAGE, workload__kind="JobSet"))["JobSet"]
    assert arguments(jobset) == arguments(objects(IN_IMAGE)["Job"])


@pytest.mark.parametrize("text", ["yes", "1e3", "--", "a b: c #d", "é\n\"'", "$HOME", ""])
def test_an_argument_stays_a_text(text):
    values = merged(IN_IMAGE, script__args=["--", text])
    assert arguments(objects(values)["Job"])[-3:] == ["/app/train.py", "--", text]


def test_another_script_is_another_job_which_goes_on_with_the_run():
    names = [
        name(IN_IMAGE), name(merged(IN_IMAGE, script__path="/app/other.py")),
        name(merged(IN_IMAGE, script__args=["--rate", "1e-4"])), name(SOURCE),
        name(merged(SOURCE, script__source="import trainer  # again\n")),
        name(merged(SOURCE, config__checkpoint__every_steps=5)),
    ]  # fmt: skip
    assert len(set(names)) == len(names)
    assert name(merged(SOURCE, suspend=True)) == name(SOURCE)


@pytest.mark.parametrize("key", OF_FIT)
def test_what_is_said_in_the_script_is_refused_for_the_trainers_reason(key):
    path = f"config__{key.replace('.', '__')}"
    for values in (IN_IMAGE, SOURCE):
        said = refusal(merged(values, **{path: GIVEN[key]}))
        assert f"config.{key} is no key of a script's run: {OF_FIT[key]}" in said


@pytest.mark.parametrize(
    ("values", "changes", "said"),
    [
        (IN_IMAGE, {"script__source": "x"}, "script.path /app/train.py and script.source are two"),
        (ONE, {"config": {}}, "nothing says what is trained"),
        (ONE, {"config": {"train": {"epochs": 3}}}, "--set-file script.source=train.py brings"),
        (ONE, {"config": {}, "recipe__source": "x = 1"}, 'config.recipe is ""'),
        (ONE, {"script__args": ["x"]}, "script.args are given, but no script"),
        (IN_IMAGE, {"recipe__source": "x = 1"}, "recipe.source is given, but a script"),
        (IN_IMAGE, {"run__base": ""}, "--set run.base=gs://BUCKET/runs"),
        (IN_IMAGE, {"config__run__dir": "runs/x"}, "would live in runs/x, which a pod loses"),
        (IN_IMAGE, {"config__cluster__min_workers": 4}, "min_workers 4 is more than the 3"),
        (IN_IMAGE, {"script__path": "train.py"}, "'/script/path': 'train.py' does not match"),
        (IN_IMAGE, {"script__args": [5]}, "'/script/args/0': got number, want string"),
        (IN_IMAGE, {"script__file": "x"}, "'/script': additional properties 'file' not allowed"),
        (IN_IMAGE, {"config__train": {"sed": 3}}, "'/config/train': additional properties 'sed'"),
        (SOURCE, {"config__checkpoint": {"evry": 3}}, "additional properties 'evry' not allowed"),
    ],
)
def test_what_cannot_work_is_refused_with_the_way_out(values, changes, said):
    assert said in refusal(merged(values, **changes))


def test_a_source_that_no_config_map_holds_is_refused(tmp_path):
    file = tmp_path / "train.py"
    values = merged(GROUP, config={})
    file.write_text("é" * (2**19 - 1))  # with the configuration's {}, just 1 MiB of UTF-8
    assert objects(values, f"--set-file=script.source={file}")
    file.write_text("é" * 2**19)
    said = refusal(values, f"--set-file=script.source={file}")
    assert "have 1048578 bytes, of which a ConfigMap holds 1048576" in said
    assert "script.path" in said


def test_the_notes_name_the_script():
    assert "run /app/train.py; the run lives in" in notes(merged(IN_IMAGE, workers=1))
    assert "run " not in notes(ONE).partition(";")[0]


def test_the_command_and_the_configuration_that_are_rendered_start_the_script(tmp_path):
    """Those of the test on a cluster, with a folder in the place of the pod's mount."""
    claims = [{"claimName": "runs", "mountPath": str(tmp_path)}]
    values = chart_values(Store(Kube("store"))) | script_values()
    values = merged(values, workers=1, claims=claims, run__base=str(tmp_path / "runs"))
    found = objects(values, f"--set-file=script.source={SCRIPT}")
    for file, text in found["ConfigMap"]["data"].items():
        (tmp_path / file).write_text(text)
    words = [word.replace("/etc/trainer", str(tmp_path)) for word in arguments(found["Job"])]
    first = words.index("--")
    result = CliRunner().invoke(trainer_command, [*words[:first], "--dry-run", *words[first:]])
    assert result.exit_code == 0, result.output
    shown = yaml.safe_load(result.stdout)
    assert shown["run"]["dir"] == str(tmp_path / "runs" / "ml" / "demo")
    assert shown["checkpoint"]["every_steps"] == values["config"]["checkpoint"]["every_steps"]
    assert (tmp_path / "train.py").read_text() == SCRIPT.read_text()
