"""The end of a run: the test pass, the exported model, and the summary that marks it complete."""

from typing import Any

from trainer.checkpoint.position import Position
from trainer.checkpoint.state import ModelState
from trainer.config import RunConfig
from trainer.evaluation import Evaluator
from trainer.export import export_model
from trainer.run_dir import RunDir
from trainer.versions import versions


def report(
    config: RunConfig, run: RunDir, log: Any, evaluator: Evaluator, sample: Any, *,
    position: Position, history: dict[str, list[float]], state: ModelState, seconds: float,
) -> dict[str, Any]:  # fmt: skip
    """Evaluate, export and write the summary, in this order; returns the summary.

    A process that ends before the summary is written does all of it again, and nothing else.
    """
    log.info("report", step=position.step)
    if config.export.weights == "best":
        state.restore_weights(run.checkpoint("best").arrays)
    test = evaluator.evaluate(config.data.test) if config.data.test else {}
    model = evaluator.model
    files = export_model(model, run.model, config.export.formats, sample[0])
    logs = position.epoch_logs
    summary = {
        "complete": True,
        "run": config.run_name,
        "steps": position.step,
        "epochs": config.train.epochs,
        "stopped_early": position.stop_training,
        "train": {k: v for k, v in logs.items() if not k.startswith("val_")},
        "validation": {k.removeprefix("val_"): v for k, v in logs.items() if k[:4] == "val_"},
        "test": test,
        "history": history,
        "model": files,
        "seconds": round(seconds, 3),
        "versions": versions(),
    }
    run.write_summary(summary)
    return summary
