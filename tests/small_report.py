"""A run's folder as a real run leaves it, in a moment, for those who look at runs."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from trainer.config import RunConfig
from trainer.goodput import Generation
from trainer.recipes.base import Params
from trainer.run import ledger
from trainer.run.curve_store import RunCurves
from trainer.run.events import RunEvents
from trainer.run.run_dir import RunDir
from trainer.storage import open_storage

START = 1_790_000_000.0
SECONDS = {"startup": 4.0, "restore": 0.5, "compile": 2.0, "step": 20.0, "data_wait": 2.0,
           "validation": 3.0, "checkpoint": 1.0}  # fmt: skip
STEPS_PER_EPOCH, TARGET, KILLED_AT, RESTORED = 100, 600, 330, 300
# A picture of one dot.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c6360000000020001487eafa20000000049454e44ae426082"
)


def make_run(url: str, *, is_complete: bool = True, rate: float = 0.1, **names: str) -> RunDir:
    """A run that was killed after step 330 and went on from step 300, to its end or not.

    names: what to call it and others in it, as `metric`.
    """
    run = RunDir(url)
    config = {
        "recipe": "fashion_mnist",
        "data": {"url": "builtin:fashion_mnist", "batch_size": 32, "validation": "test"},
        "train": {"epochs": 6},
        "run": {"dir": url},
        "params": {"learning_rate": rate},
    }
    run.admit(RunConfig.model_validate(config), Params, "data")
    metric = names.get("metric", "accuracy")
    end = TARGET if is_complete else 450
    _live(run, 1, 0, KILLED_AT, metric, rate, "killed", names.get("detail", "signal 9"))
    _live(run, 2, RESTORED, end, metric, rate, "complete" if is_complete else "stopped", "")
    run.checkpoints.save(RESTORED, {}, state={}, metrics={"val_loss": 0.4})
    run.checkpoints.save(end, {}, state={}, metrics={"val_loss": 0.3})
    run.storage.write("pictures/predictions.png", PNG)
    if is_complete:
        measured = {"loss": 0.25, metric: 0.91}
        run.write_summary(
            {"complete": True, "run": run.config().run_name, "steps": end, "epochs": 6,
             "train": measured, "validation": measured, "test": measured}
        )  # fmt: skip
    return run


def _live(
    run: RunDir, number: int, start: int, end: int, metric: str, rate: float, reason: str,
    detail: str,
) -> None:  # fmt: skip
    began = START + 40.0 * (number - 1)
    ledger.write(
        run.storage,
        Generation(
            number, began, began + sum(SECONDS.values()), SECONDS, step=end, reached=end,
            reason=reason, detail=detail,
        ),
    )  # fmt: skip
    events = RunEvents(run.storage, number, clock=lambda: began)
    versions = {"version": "1.2.3", "keras": "3.15.0", "python": "3.11.9"}
    events.add("start", holder="process 7 on host", versions=versions, machine={"processors": 2})
    skipped = ["checkpoint step-320 is damaged: restoring step-300"] if start else []
    events.add("restore", step=start, skipped=skipped)
    curves = RunCurves(run.storage, number)
    assert curves.recorder is not None
    curves.recorder.begin(start, TARGET, STEPS_PER_EPOCH)
    for step in range(start, end, 10):
        steps = np.arange(step + 1, step + 11)
        loss = 2 * np.exp(-steps / 200) + 0.2
        ended = (began + 6.5 + (steps - start) * 0.05).tolist()
        curves.recorder.call({"loss": loss, metric: 1 - loss / 3}, ended, [0.004] * 10)
        if (step + 10) % STEPS_PER_EPOCH == 0:
            value = float(loss[-1])
            logs = {"loss": value, metric: 1 - value / 3, "val_loss": value + 0.1,
                    f"val_{metric}": 0.95 - value / 3}  # fmt: skip
            curves.recorder.epoch(logs, ended[-1])
            curves.recorder.rate(rate * math.exp(-step / 300), ended[-1])
    curves.close()


def folder(tmp_path: Path, name: str = "demo", **given: Any) -> RunDir:
    """The same in a local folder."""
    return make_run(str(tmp_path / name), **given)


def objects(run: RunDir) -> dict[str, str]:
    """Version by path, to see that nothing was written."""
    return {entry.path: entry.version for entry in open_storage(run.url).list()}
