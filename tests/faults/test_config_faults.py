"""Wrong, hostile and secret configurations, given to real processes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.faults.harness import Life
from tests.faults.surroundings import needs_mounts, needs_rights, private_mount, with_plain_rights
from tests.small_data import write_dataset
from trainer.errors import ConfigError
from trainer.preflight import check_data
from trainer.recipes.catalog import load_run
from trainer.run.run_dir import RunDir

ROOT = Path(__file__).parents[2]
SECRET = "hunter2"
RUN_YAML = """\
recipe: fashion_mnist
data: {url: "builtin:fashion_mnist", batch_size: 64}
train: {epochs: 2}
"""
START = "import sys; from trainer.cli import main; main(sys.argv[1:])"
SECOND = "import sys; del sys.argv[1]\n"  # `private_mount` wants its folder first
# Ends with 99 when the command writes, connects, or asks for an address.
GUARD = """
import os, sys
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "socket.bind", "os.mkdir", "os.rename",
             "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
             "subprocess.Popen", "os.fork", "os.posix_spawn", "tempfile.mkstemp")
def guard(event, args):
    opened = event == "open" and args[2] & WRITES and args[0] not in (os.devnull, 1)
    if event in FORBIDDEN or opened:
        os.write(2, f"guard: {event} {args}".encode())
        os._exit(99)
sys.addaudithook(guard)
from trainer.cli import main
main(sys.argv[1:])
"""


@pytest.fixture
def trainer(zygote, tmp_path_factory):
    """Runs one command in a process of its own."""

    def run(*args, environ=None, cwd=ROOT):
        folder = tmp_path_factory.mktemp("said")
        output, errors = folder / "output", folder / "errors"
        request = {"argv": [*map(str, args)], "env": environ or {}, "cwd": str(cwd)}
        answer = zygote.ask({**request, "output": str(output), "errors": str(errors)})
        code = Life(zygote, answer["pid"], output).wait()
        return CompletedProcess(args, code, output.read_text(), errors.read_text())

    return run


@pytest.fixture
def check(trainer):
    return lambda override: trainer("config", "check", "-c", "fashion_mnist", "--set", override)


def guarded(*args):
    """One command in a process that ends with 99 where it should touch nothing."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TRAINER_")}
    return subprocess.run(
        [sys.executable, "-B", "-c", GUARD, *map(str, args)], cwd=ROOT, capture_output=True,
        text=True, env={**kept, "PYTHONPATH": str(ROOT)}, timeout=60,
    )  # fmt: skip


def tree(folder):
    return {
        str(path): path.stat().st_mtime_ns if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def started(tmp_path):
    """A run that was started with the recipe's own configuration, and saved a checkpoint."""
    config, _, params = load_run("fashion_mnist", [f"run.dir={tmp_path}/run"])
    run = RunDir(config.run.dir)
    run.admit(config, type(params), check_data(config).content_hash)
    run.checkpoints.save(1, {}, state={}, metrics={})
    return tmp_path / "run"


def dry_run(run_dir, *args):
    run = f"run.dir={run_dir}"
    return guarded("train", "-c", "fashion_mnist", "--dry-run", "--set", run, *args)


def test_f64_unknown_key(check):
    result = check("checkpoint.evry_steps=5")
    assert result.returncode == 2
    assert result.stderr == (
        "trainer: fashion_mnist with --set: unknown key 'checkpoint.evry_steps': "
        "did you mean 'checkpoint.every_steps'?\n"
    )


def test_f64_unknown_parameter_of_the_recipe(check):
    result = check("params.learning_rte=0.1")
    assert result.returncode == 2
    assert "'params.learning_rte': did you mean 'params.learning_rate'?" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {epochs: ten}", "'train.epochs' is 'ten': must be a whole number"),
        ("train: {epochs: 2, seed: on}", "'train.seed' is 'on': must be a whole number"),
        ("train: {epochs: 2}\ntrain: {epochs: 3}", "key 'train' appears twice"),
        ("train: {epochs: 2, epochs: 3}", "key 'epochs' appears twice"),
        ("train: {epochs: 2}\ntrue: 1", "run.yaml line 4, column 1: a key that is not text"),
        ("train: {epochs: 2", "run.yaml line 3, column 8: a bracket that is not closed"),
        ("train: 3", "'train' is 3: must be a section of keys"),
    ],
)
@pytest.mark.parametrize("command", [["config", "check"], ["train"]])
def test_f65_wrong_type_or_duplicate_key(trainer, text, message, command, tmp_path):
    kept = RUN_YAML.partition("train:")[0]
    (tmp_path / "run.yaml").write_text(kept + text)
    result = trainer(*command, "-c", "run.yaml", cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("le=x", "label name 'le' is used by the trainer"),
        ("team=a b\n", "must be at most 128 letters"),
        ("__name__=x", "label name '__name__' must be letters"),
        ("team=" + "x" * 200, "must be at most 128 letters"),
    ],
)
def test_f61_hostile_label(check, label, reason):
    name, _, value = label.partition("=")
    result = check(f"metrics.labels={json.dumps({name: value})}")
    assert result.returncode == 2
    assert "metrics.labels" in result.stderr
    assert reason in result.stderr


@pytest.mark.parametrize(
    "command", [["recipes", "list"], ["config", "show", "-c", "fashion_mnist"]]
)
def test_f67_unknown_variable(trainer, command):
    result = trainer(*command, environ={"TRAINER_DEBUGG": SECRET})
    assert result.returncode == 2
    assert "unknown environment variable TRAINER_DEBUGG" in result.stderr
    assert "did you mean TRAINER_DEBUG?" in result.stderr
    assert SECRET not in result.stderr


def test_f67_known_variables_are_fine(trainer):
    environ = {"TRAINER_DEBUG": "1"}
    assert trainer("recipes", "list", environ=environ).returncode == 0


def test_f68_dry_run_of_a_new_run_touches_nothing(tmp_path):
    result = dry_run(tmp_path / "run")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("recipe: fashion_mnist\n")
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["cluster.replicas=7"], "cannot be split over 7 replicas"),
        (["train.engine=fit", "cluster.replicas=2"], "trains on one device"),
        (["train.engine=fit", "train.accumulate_steps=2"], "does not accumulate"),
        (["train.accumulate_steps=3"], "8 streams and 1 replicas in 3 micro-batches"),
        (["data.train=train[:5]"], "set data.streams to 5 or less"),
        (["data.last_batch=drop", "data.batch_size=8000"], "leaves no step of 8000"),
    ],
)
def test_f68_dry_run_refuses_impossible_numbers(tmp_path, settings, message):
    result = dry_run(tmp_path / "run", *(f"--set={setting}" for setting in settings))
    assert result.returncode == 2
    assert message in result.stderr


def test_f68_dry_run_of_a_started_run_touches_nothing(started):
    before = tree(started)
    assert dry_run(started, "--json").returncode == 0
    assert tree(started) == before


def test_f68_the_guard_would_see_a_write(tmp_path):
    result = guarded("data", "prepare", "mnist", "--to", tmp_path / "x")
    assert result.returncode == 99


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--set", "train.seed=5"], 5, "train.seed: 0 -> 5"),
        (["--set", "params.learning_rate=1e-5"], 5, "--allow-change params.learning_rate"),
        (["--set", "params.learning_rate=1e-5", "--allow-change", "params.learning_rate"], 0, ""),
        (["--set", "train.seed=5", "--allow-change", "train.seed"], 2, "only these may change"),
        (["--set", "train.epochs=99"], 0, ""),
        (["--set", "data.url=/nowhere"], 3, "/nowhere"),
    ],
)
def test_f68_dry_run_says_what_a_start_would(started, args, code, message):
    before = tree(started)
    result = dry_run(started, *args)
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert tree(started) == before


def refusals(run_dir, before=()):
    """(exit code, message) of a dry run, and of a start."""
    args = ["-c", "fashion_mnist", "--set", f"run.dir={run_dir}", "--set", "log.format=text"]
    for code, option in ((GUARD, ["--dry-run"]), (START, [])):
        result = subprocess.run(
            [*before, sys.executable, "-Bc", SECOND + code, str(run_dir), "train", *args, *option],
            cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        yield result.returncode, result.stderr


def test_f68_dry_run_sees_a_file_in_the_place_of_the_run(tmp_path):
    (tmp_path / "file").touch()
    dry, real = refusals(tmp_path / "file" / "run")
    assert dry == real
    assert (dry[0], "Not a directory: a file is where" in dry[1]) == (2, True)


@needs_mounts
def test_f68_dry_run_sees_a_read_only_mount(tmp_path):
    dry, real = refusals(tmp_path, before=private_mount("ro"))
    assert dry == real
    assert (dry[0], "Read-only file system: mount it writable" in dry[1]) == (2, True)


@needs_rights
def test_f68_dry_run_sees_that_it_may_not_write(tmp_path):
    tmp_path.chmod(0o500)
    dry, real = refusals(tmp_path / "new" / "run", before=with_plain_rights)
    assert dry == real
    assert (dry[0], f"write in {tmp_path}/new/run" in dry[1]) == (2, True)


@needs_rights
def test_f68_dry_run_of_a_complete_run_needs_no_right_to_write(started):
    facts = {"complete": True, "run": "r", "steps": 1, "stopped_early": False, "model": []}
    RunDir(str(started)).write_summary({**facts, "epochs": 10**6})
    started.chmod(0o500)
    assert [code for code, _ in refusals(started, before=with_plain_rights)] == [0, 0]


def test_f68_dry_run_sees_other_data(started, tmp_path):
    write_dataset(tmp_path / "data", {"train": [64], "test": [64]})
    result = dry_run(started, "--set", f"data.url={tmp_path}/data")
    assert result.returncode == 5
    assert "was started with other data" in result.stderr


@pytest.mark.parametrize("key", ["run.dir", "data.url", "train.start_from"])
@pytest.mark.parametrize(
    "location",
    ["../x", "a/../../x", "file:///a/%2e%2e/x", "http://h/x", "s3://b/x", "ftp:x", "//h/x", "~/x",
     "gs://b/x?y=z", "a\\b", '"a\\0b"', "''"],
)  # fmt: skip
def test_f69_strange_locations(key, location):
    with pytest.raises(ConfigError, match=rf"{re.escape(key)}\b"):
        load_run("fashion_mnist", [f"{key}={location}"])


@pytest.mark.parametrize("key", ["run.dir", "data.url", "train.start_from"])
def test_f69_traversal_ends_with_2(check, key):
    result = check(f"{key}=a/../../x")
    assert result.returncode == 2
    assert f"{key}: must not contain '..'" in result.stderr


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "a/b", "..", ""])
def test_f69_names_in_a_data_manifest(trainer, name, tmp_path):
    write_dataset(tmp_path, {"train": [8]})
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["splits"]["train"]["shards"][0]["file"] = name
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    for command in (["data", "verify", tmp_path], ["config", "check", "-c", "fashion_mnist",
                    "--data", "--set", f"data.url={tmp_path}"]):  # fmt: skip
        result = trainer(*command)
        assert result.returncode == 3, result.stderr
        assert "root:" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "override",
    [
        f"run.dir=gs://user:{SECRET}@bucket/run",
        f"run.dir=//user:{SECRET}@host/run",
        f"run.dir={SECRET}:run",
        f"data.url=https://user:{SECRET}@host/data",
        f"data.url=gs://bucket/data?token={SECRET}",
        f"data.url=user:{SECRET}@host:/data",
        f"train.start_from=gs://user:{SECRET}@bucket/run@12",
        f"params.api_key={SECRET}",
        f"params.password={SECRET}",
        f"params={{aws_secret: {SECRET}}}",
        f"callbacks=[{{name: a:b, args: {{token: {SECRET}}}}}]",
        f"metrics.labels={{team: 'https://u:{SECRET}@h'}}",
        f"metrics.address=user:{SECRET}@host",
        f"recipe=user:{SECRET}@host",
        f"train.seed=ghp_{SECRET}0123456789",
        f"train.seed={SECRET}!",
        f"train.seed=[{SECRET}",
        f"train.seed=*{SECRET}",
        f"train.seed=!{SECRET} x",
        f"'u:{SECRET}@h'=1",
        f"https://u:{SECRET}@h=1",
        SECRET,
    ],
)
def test_f70_a_credential_is_refused_and_not_shown(trainer, override, tmp_path):
    # With the traceback, which shows more.
    result = trainer(
        "--debug", "train", "-c", "fashion_mnist",
        "--set", f"run.dir={tmp_path}", "--set", override,
    )  # fmt: skip
    assert result.returncode == 2
    assert SECRET not in result.stdout + result.stderr
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("command", ["show", "check"])
def test_f70_a_credential_in_a_file_is_refused_and_not_shown(trainer, command, tmp_path):
    (tmp_path / "run.yaml").write_text(RUN_YAML + f"params: {{api_key: {SECRET}}}\n")
    result = trainer("config", command, "-c", "run.yaml", cwd=tmp_path)
    assert result.returncode == 2
    assert "run.yaml: 'params.api_key' looks like a credential (not shown)" in result.stderr
    assert SECRET not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["train", "-c", f"https://user:{SECRET}@host/run.yaml"],
        ["checkpoints", "list", f"gs://user:{SECRET}@bucket/run"],
        ["checkpoints", "verify", f"//user:{SECRET}@host/run"],
        ["evaluate", f"https://user:{SECRET}@host/run"],
        ["data", "verify", f"user:{SECRET}@host"],
        ["data", "prepare", "mnist", "--to", f"s3://user:{SECRET}@bucket"],
        ["config", "schema", "--recipe", f"user:{SECRET}@host"],
    ],
)
def test_f70_a_credential_in_an_argument_is_not_shown(trainer, args):
    result = trainer(*args)
    assert result.returncode == 2, result.stderr
    assert SECRET not in result.stdout + result.stderr


def test_f70_a_damaged_configuration_of_a_run_is_not_shown(trainer, started):
    (started / "config.yaml").write_text(f"train: {{seed: '{SECRET}!'}}\n")
    result = trainer("--debug", "train", "-c", "fashion_mnist", "--set", f"run.dir={started}")
    assert result.returncode == 5
    assert SECRET not in result.stdout + result.stderr
