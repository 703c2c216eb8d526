"""`trainer evaluate` and `trainer export`: what they need of TensorFlow is loaded when called."""

import sys
from typing import TYPE_CHECKING

import click

from trainer.cli.options import (
    HELP_NAMES,
    apply_options,
    checkpoint_option,
    examples,
    follow_parents,
    json_option,
    print_json,
    run_argument,
)
from trainer.errors import ConfigError

if TYPE_CHECKING:
    from trainer.run.run_dir import RunDir
    from trainer.trained_model import TrainedModel


@click.command(
    context_settings=HELP_NAMES,
    epilog=examples(
        "trainer evaluate runs/local",
        "trainer evaluate runs/local --checkpoint best --split 'train[:1000]'",
        "trainer evaluate runs/local --json",
    ),
)
@apply_options(
    run_argument,
    checkpoint_option,
    click.option(
        "--split", metavar="SPLIT", help="A split or slice of the data; by default data.test."
    ),
    json_option,
)
def evaluate(run_dir: str, which: str | None, split: str | None, as_json: bool) -> None:
    """Measure a run's model on a split; the run may be finished or not, and is not changed.

    One process computes: on a GPU, if this machine has one and the run's cluster.device is not cpu.
    The data must be the run's own.
    """
    run = _find(run_dir, which)
    split = split or run.config().data.test
    if split is None:
        raise ConfigError("the run names no data.test: say which split, as in --split test")
    _check_data(run, split)
    model = _load(run, which)
    metrics = model.evaluate(split)
    if as_json:
        print_json({**_which(model), "split": split, "metrics": metrics})
        return
    from trainer.cli.tables import print_facts

    print_facts([("step", _step(model)), ("split", split), *_shown(metrics)])


@click.command(
    context_settings=HELP_NAMES,
    epilog=examples(
        "trainer export runs/local",
        "trainer export runs/local --checkpoint best --to /models/best --format keras",
    ),
)
@apply_options(
    run_argument,
    checkpoint_option,
    click.option(
        "--to", metavar="DIR", callback=follow_parents,
        help="Where the files go; by default RUN_DIR/model, or RUN_DIR/model-CHECKPOINT.",
    ),
    click.option(
        "--format", "formats", multiple=True, type=click.Choice(["keras", "saved_model"]),
        help="What to write; repeatable; by default the run's export.formats.",
    ),
    json_option,
)  # fmt: skip
def export(
    run_dir: str, which: str | None, to: str | None, formats: tuple[str, ...], as_json: bool
) -> None:
    """Write a run's model as files, which are loaded again and compared before they count.

    One process computes: on a GPU, if this machine has one and the run's cluster.device is not cpu.
    The data must be the run's own.
    """
    if to is None:
        # The model of another step must not take the place of the run's own.
        to = f"{run_dir.rstrip('/')}/model" + (f"-{which}" if which else "")
    run = _find(run_dir, which)
    formats = formats or run.config().export.formats
    if not formats:
        raise ConfigError("the run's export.formats is empty: say which, as in --format keras")
    storage = run.open(to)
    _check_data(run)
    model = _load(run, which)
    files = model.export(storage, formats)
    if as_json:
        print_json({**_which(model), "files": files})
        return
    from trainer.cli.tables import print_facts

    print_facts([("step", _step(model)), *(("model", file) for file in files)])


def _find(run_dir: str, which: str | None) -> "RunDir":
    """The run, which has that checkpoint."""
    from trainer.config.models.run import SCRIPT
    from trainer.run.run_dir import RunDir

    run = RunDir(run_dir)
    run.check_exists()
    if run.config().recipe == SCRIPT:
        raise ConfigError(
            f"{run.url} is of a script, whose model only the script makes: let it call "
            "trainer.evaluate, or model.save, after trainer.fit, and run it again"
        )
    run.checkpoint(which or run.config().export.weights)
    return run


def _check_data(run: "RunDir", *splits: str) -> None:
    """The run's own data, and all of it: constants that its model is built from lie there alone."""
    from trainer.preflight import check_data

    config = run.config()
    run.check_data(config, check_data(config, *splits).content_hash)


def _load(run: "RunDir", which: str | None) -> "TrainedModel":
    """Loads TensorFlow: what can be refused without it has been."""
    from trainer.backend import check_backend
    from trainer.log import configure_logging, get_log
    from trainer.tensorflow_start import importing_tensorflow

    check_backend(run.config().on_one_device(), num_workers=1)
    configure_logging(as_json=not sys.stderr.isatty(), stream=sys.stderr)
    with importing_tensorflow():
        from trainer.trained_model import load_trained_model
    return load_trained_model(run, which, get_log())


def _which(model: "TrainedModel") -> dict[str, object]:
    return {"run": model.job.config.run_name, "step": model.step, "final": model.is_final}


def _step(model: "TrainedModel") -> str:
    return f"{model.step}" + ("" if model.is_final else " (not the model that the run ends with)")


def _shown(metrics: dict[str, float]) -> list[tuple[str, str]]:
    return [(name, f"{value:.4f}") for name, value in metrics.items()]
