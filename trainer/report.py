"""The end of a run: the test pass, the exported model, and the summary that marks it complete."""

import shlex
from typing import Any

from trainer.checkpoint.position import Position
from trainer.environment import command_name
from trainer.export import export_model, writable
from trainer.job import Assembled, Job
from trainer.versions import versions


def report(
    job: Job, assembled: Assembled, position: Position, *,
    history: dict[str, list[float]], world_sizes: list[list[int]], seconds: float,
) -> dict[str, Any]:  # fmt: skip
    """Evaluate, export and write the summary, in this order; returns the summary.

    A process that ends before the summary is written does all of it again, and nothing else.
    """
    job.log.info("report", step=position.step)
    config = job.config
    if config.export.weights == "best":
        assembled.state.restore_weights(job.run.checkpoint("best").arrays)
    test: dict[str, float] = {}
    if config.data.test:
        with job.goodput.cause("validation"):
            test = assembled.evaluator.evaluate(config.data.test, between=job.on_progress)
    files, failure = _export(job, assembled)
    logs = position.epoch_logs
    summary = {
        "complete": True,
        "run": config.run_name,
        "steps": position.step,
        # Not train.epochs, which may have been lowered since.
        "epochs": position.epochs_ended(assembled.dataset.training_order().steps_per_epoch),
        "stopped_early": position.stop_training,
        "train": {k: v for k, v in logs.items() if not k.startswith("val_")},
        "validation": {k.removeprefix("val_"): v for k, v in logs.items() if k[:4] == "val_"},
        "test": test,
        "history": history,
        "world_sizes": world_sizes,
        "model": files,
        **({"export_error": failure} if failure else {}),
        "seconds": round(seconds, 3),
        "versions": versions(),
    }
    job.run.write_summary(summary)
    assembled.agreement.part()  # who leaves earlier would break the chief's export off
    return summary


def _export(job: Job, assembled: Assembled) -> tuple[list[str], str | None]:
    """(files, why there are none): a failed export takes nothing from a finished training."""
    wanted = job.config.export.formats if assembled.place.is_chief else ()
    try:
        formats = writable(wanted, job.log)
        return export_model(assembled.model, job.run.model, formats, assembled.sample[0]), None
    except Exception as error:
        reason = str(error) or repr(error)
        again = f"{command_name()} export {shlex.quote(job.run.url)}"
        job.log.error("the model was not exported", reason=reason, try_again=again)
        return [], reason
