"""The `trainer` command. Commands are thin: they read options and call what does the work.

TensorFlow is imported only inside the commands that train or load a model.
"""

import os
import traceback
from typing import Any

import click

import trainer
from trainer.cli.options import leave
from trainer.cli.train import train, worker
from trainer.config import check_environment
from trainer.errors import TrainerError


class _Commands(click.Group):
    """Ends with a message and the error's exit code instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            check_environment()
            return super().invoke(ctx)
        except TrainerError as error:
            if ctx.params["debug"] or os.environ.get("TRAINER_DEBUG"):
                traceback.print_exc()
            click.echo(f"trainer: {error}", err=True)
            leave(error.exit_code)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if ctx.params["debug"] or os.environ.get("TRAINER_DEBUG"):
                traceback.print_exc()
            click.echo(
                f"trainer: unexpected {type(error).__name__}: {error}\n"
                "run again with 'trainer --debug ...' for the traceback",
                err=True,
            )
            leave(1)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Examples:\n\n  trainer train -c fashion_mnist\n\n"
    "  trainer train -c run.yaml --set train.epochs=20 --set run.dir=runs/long\n\n"
    "  trainer checkpoints list runs/long",
)
@click.version_option(trainer.__version__, prog_name="trainer")
@click.option("--debug", is_flag=True, help="Print a traceback when a command fails.")
def main(debug: bool) -> None:
    """Train Keras models that resume exactly where they stopped."""
    del debug  # read from the context where errors are caught


main.add_command(train)
main.add_command(worker)
