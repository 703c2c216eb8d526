"""Scripts of plain Keras and their ports to `trainer.fit`: what is changed, and nothing lost."""

import difflib
import runpy
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import trainer
from tests.faults.groups import Agents, at_the_gate, gate, open_gate, wait_until
from tests.faults.groups import finish as finish_group
from tests.faults.harness import Run, finish, signal_at
from tests.faults.test_agent import fetch
from tests.pages import ROOT, commands_of, read_page, run_commands

SCRIPTS = ROOT / "tests" / "scripts"
PAGE = read_page("scripts.md")
SETTINGS = {
    "metrics.enabled": False, "checkpoint.every_steps": 4, "checkpoint.background": False,
}  # fmt: skip
# lines changed or added
CHANGED = {"mnist_convnet": 3, "fashion_fit": 3, "vae": 5, "gan": 3, "text_classifier": 3}
FEW = ("--records=290", "--batch-size=32", "--epochs=2")
ARGUMENTS = {
    "mnist_convnet": (*FEW, "--filters=4"),
    "fashion_fit": (*FEW, "--filters=4"),
    "vae": (*FEW, "--filters=4"),
    "gan": (*FEW, "--filters=4", "--latent-dim=8"),
    "text_classifier": (*FEW, "--epochs=4", "--words=300", "--length=40", "--width=8"),
}
# script, step of the kill, the checkpoints that are kept: of an epoch's steps, 9, 10 or 11
KILLS = [
    ("mnist_convnet", 6, [4]),
    ("fashion_fit", 14, [8, 10, 12]),
    ("vae", 6, [4]),
    ("gan", 13, [10]),
    ("text_classifier", 23, [10, 20]),
]


def changes(name):
    """The lines of a script that its port has not, and those that it has instead."""
    texts = [(SCRIPTS / f"{name}{kind}.py").read_text().splitlines() for kind in ("", "_ported")]
    lines = list(difflib.unified_diff(*texts, n=0, lineterm=""))[2:]
    return [line for line in lines if line.strip("+-") and not line.startswith("@@")]


def started(zygote, folder, name):
    folder.mkdir(exist_ok=True)
    script = (str(SCRIPTS / f"{name}_ported.py"), *ARGUMENTS[name])
    return Run(zygote, folder, SETTINGS, script=script)


@pytest.mark.parametrize("name", CHANGED)
def test_the_page_shows_what_is_changed(name):
    lines = changes(name)
    assert sum(line.startswith("+") for line in lines) == CHANGED[name]
    assert "```diff\n" + "\n".join(lines) + "\n```" in PAGE


@pytest.mark.long
@pytest.mark.parametrize(("name", "at", "committed"), KILLS)
def test_a_port_is_killed_and_resumed(zygote, tmp_path, name, at, committed):
    calm, run = (started(zygote, tmp_path / folder, name) for folder in ("calm", "disturbed"))
    assert calm.train().code == 0, calm.lives[0].text()
    life = run.train(callbacks=[signal_at(at)])
    assert life.code == -9, life.text()
    assert run.committed() == committed
    finish(run, calm)


@pytest.mark.long
@pytest.mark.parametrize(("name", "at", "committed"), KILLS)
def test_a_port_is_killed_and_resumed_on_two_workers(zygote, tmp_path, name, at, committed):
    calm, run = (started(zygote, tmp_path / folder, name) for folder in ("calm", "disturbed"))
    Agents(calm).train()
    agents = Agents(run, settings={"callbacks": [gate(run, at)]})
    agents.start()
    at_the_gate(agents)
    assert run.committed() == committed
    agents.kill_worker(1)
    finish_group(agents, calm)
    steps = [event["step"] for event in agents.lives[0].events("restore")]
    assert steps == [0, committed[-1]]
    assert run.summary()["world_sizes"] == [[0, 2]]


def test_a_script_tells_its_run_and_its_versions(zygote, tmp_path):
    run = started(zygote, tmp_path, "mnist_convnet")
    life = run.start(
        command="train", callbacks=[gate(run)], metrics__enabled=True, metrics__port=0
    )  # fmt: skip
    wait_until(run.fired, "the worker at the gate")
    wait_until(lambda: 'trainer_run_info{run="run"} 1.0' in fetch(life), "the run's name")
    assert f'version="{trainer.__version__}"' in fetch(life)
    open_gate(run)
    assert life.wait() == 0, life.text()


SAVES = """
import keras, numpy as np, trainer
x = np.random.default_rng(0).random((64, 4)).astype("float32")
model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.3), keras.layers.Dense(1)])
model.compile("adam", "mse", metrics=["mae"])
checkpoints = [
    keras.callbacks.ModelCheckpoint("each.{epoch}.weights.h5", save_weights_only=True),
    keras.callbacks.ModelCheckpoint("best.keras", save_best_only=True, monitor="loss"),
]
trainer.fit(model, x, x[:, :1], batch_size=16, epochs=2, callbacks=checkpoints)
if trainer.is_chief():
    model.save("final.keras")
"""


def test_one_of_two_workers_saves_by_keras_own_means(zygote, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saves.py").write_text(SAVES)
    run = Run(zygote, tmp_path / "run", SETTINGS, script=(str(tmp_path / "saves.py"),))
    run.folder.mkdir()
    Agents(run).train()
    found = {path.name for path in tmp_path.rglob("*") if path.suffix in (".h5", ".keras")}
    assert found == {"each.1.weights.h5", "each.2.weights.h5", "best.keras", "final.keras"}
    [file] = tmp_path.rglob("final.keras")
    saved = [array for array in run.last().arrays.values() if array.shape == (4, 1)]
    kernel = keras.models.load_model(file).get_weights()[0]
    assert any(np.array_equal(kernel, array) for array in saved)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras
@pytest.mark.parametrize("name", ["fashion_fit", pytest.param("vae", marks=pytest.mark.long)])
def test_original_and_port_come_to_the_same(tmp_path, monkeypatch, name):
    """Each by plain Python, in this process."""
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])
    trainer.setup(str(tmp_path))
    found = []
    for kind in ("", "_ported"):
        script = SCRIPTS / f"{name}{kind}.py"
        monkeypatch.setattr(sys, "argv", [str(script), *ARGUMENTS[name], "--no-shuffle"])
        found.append(runpy.run_path(str(script), run_name="__main__"))
    original, port = found
    for one, other in zip(original["model"].weights, port["model"].weights, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), atol=1e-5)
    assert port["history"].epoch == original["history"].epoch
    assert port["history"].history == {
        key: pytest.approx(values, rel=1e-5) for key, values in original["history"].history.items()
    }


@pytest.mark.long
def test_the_page_is_run_as_it_stands(tmp_path):
    assert "trainer run" in commands_of(PAGE)
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    run_commands(PAGE, tmp_path)
    assert len(list(Path(tmp_path, "runs").glob("*/summary.json"))) == 3
