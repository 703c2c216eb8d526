"""The top of the command line: which commands there are, and how errors end them."""

import difflib
import json
import os
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import click

import trainer
from trainer import last_words
from trainer.cli.hints import likely_meant
from trainer.cli.options import AS_JSON, HELP_NAMES, examples
from trainer.cli.output import say, watched_output
from trainer.environment import check_environment, command_name
from trainer.errors import ConfigError, TrainerError

# name -> (where, one line); the line is here so that --help loads no command.
COMMANDS = {
    "train": ("trainer.cli.train:train", "Train to the end, or go on from the last checkpoint."),
    "run": ("trainer.cli.train:run", "Run a script whose models trainer.fit trains, and go on."),
    "evaluate": ("trainer.cli.model:evaluate", "Measure a run's model on a split."),
    "export": ("trainer.cli.model:export", "Write a run's model as files for others."),
    "debug": ("trainer.cli.debug:debug", "Train a run's next steps here, and leave it as it is."),
    "chaos": (
        "trainer.cli.chaos:chaos",
        "Disturb a training on this machine, and see whether its result is the same.",
    ),
    "doctor": ("trainer.cli.doctor:doctor", "Find out whether a run could start."),
    "checkpoints": (
        "trainer.cli.checkpoints:checkpoints",
        "List, verify and look into checkpoints.",
    ),
    "report": ("trainer.cli.report:report", "Show a run, or compare several, on one page."),
    "runs": ("trainer.cli.runs:runs", "See how runs stand, or delete them."),
    "data": ("trainer.cli.data:data", "Prepare, list and verify data sets."),
    "recipes": ("trainer.cli.recipes:recipes", "List what can be trained, or begin your own."),
    "config": ("trainer.cli.config:config", "Show, check and describe configurations."),
    "completion": ("trainer.cli.completion:completion", "Print a shell's completion script."),
    "worker": ("trainer.cli.train:worker", "The training process alone, for debugging."),
}
_EXTRAS = {"tensorflow", "keras", "tensorflow_datasets"}


class _Root(click.Group):
    """Loads commands late, and ends with a message instead of a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"use one of {', '.join(COMMANDS)}"
            ctx.fail(f"no command '{args[0]}': {hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            check_environment()
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort):
            raise
        except (Exception, SystemExit, GeneratorExit) as error:
            # An exit of a user's code is no end of ours.
            output = watched_output()
            if output is not None and error is output.error:
                ctx.exit(1)  # `main` tells why
            debug = ctx.params["debug"] or bool(os.environ.get("TRAINER_DEBUG"))
            ctx.exit(_tell(error, debug=debug, as_json=ctx.meta.get(AS_JSON, False)))


def _tell(error: BaseException, *, debug: bool, as_json: bool) -> int:
    """Say what went wrong on standard error; returns the exit code."""
    code, message = _explain(error, debug=debug)
    last_words.leave(message)
    if debug and not isinstance(error, click.ClickException):
        say("".join(traceback.format_exception(error)))
    if as_json:
        # As the log's events are.
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        event = {"code": code, "message": message, "event": "error", "level": "error"}
        say(json.dumps(event | {"timestamp": now}))
    elif isinstance(error, click.ClickException):
        with suppress(OSError):
            error.show()
        if isinstance(error, click.UsageError) and (meant := likely_meant(error)):
            say(meant)
    else:
        say(f"trainer: {message}")
    return code


def _explain(error: BaseException, *, debug: bool) -> tuple[int, str]:
    """The exit code, and what to say."""
    if isinstance(error, click.UsageError):
        return error.exit_code, f"{error.format_message()} {likely_meant(error)}".rstrip()
    if isinstance(error, click.ClickException):
        return error.exit_code, error.format_message()
    if isinstance(error, TrainerError):
        return error.exit_code, str(error)
    if isinstance(error, ModuleNotFoundError) and error.name in _EXTRAS:
        return ConfigError.exit_code, (
            f"this command needs {error.name}, which is not installed: install "
            "trainer-k8s[cpu] or trainer-k8s[gpu]"
        )
    hint = "" if debug else f"\nrun again with '{command_name()} --debug ...' for the traceback"
    return 1, f"unexpected {type(error).__name__}: {error}{hint}"


@click.group(
    cls=_Root,
    context_settings={**HELP_NAMES, "max_content_width": 100},
    epilog=examples(
        "trainer train -c fashion_mnist",
        "trainer train -c run.yaml --set train.epochs=20 --set run.dir=runs/long",
        "trainer checkpoints list runs/long",
    ),
)
@click.version_option(trainer.__version__, prog_name="trainer")
@click.option("--debug", is_flag=True, help="Print a traceback when a command fails.")
def trainer_command(debug: bool) -> None:
    """Train Keras models that resume exactly where they stopped."""
    del debug  # read from the context where errors are caught
