"""`trainer completion`."""

import click

from trainer.cli.options import HELP_NAMES, examples


@click.command(
    context_settings=HELP_NAMES,
    epilog=examples(
        'eval "$(trainer completion bash)"      # now; or put it into ~/.bashrc',
        "trainer completion zsh > ~/.zfunc/_trainer",
        "trainer completion fish > ~/.config/fish/completions/trainer.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes `trainer` commands and options in a shell."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert_known = found if found is not None else ctx.fail(f"click knows no shell '{shell}'")
    script = assert_known(ctx.find_root().command, {}, "trainer", "_TRAINER_COMPLETE")
    click.echo(script.source())
