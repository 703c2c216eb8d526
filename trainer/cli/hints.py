"""What whoever typed a command line that click refuses most likely meant."""

import click


def likely_meant(error: click.UsageError) -> str:
    """A sentence to say below the error; "" where none would help."""
    context = error.ctx
    if context is None:
        return ""
    if isinstance(error, click.MissingParameter):
        is_config = error.param is not None and error.param.name == "config_name"
        return "Name a recipe or a YAML file, as in -c run.yaml." if is_config else ""
    if isinstance(error, click.NoSuchOption):
        takes_keys = any(param.name == "overrides" for param in context.command.params)
        return _of_key(error) if takes_keys else ""
    halves = [text for text in context.params.get("overrides") or () if "=" not in text]
    if halves and error.message.startswith("Got unexpected extra argument"):
        return f"--set takes one word: --set {halves[0]}=VALUE."
    return ""


def _of_key(error: click.NoSuchOption) -> str:
    """As of `train.epochs` for --epochs."""
    from trainer.config import RunConfig, field_kinds

    name = error.option_name.lstrip("-").replace("-", "_")
    keys = [key for key in field_kinds(RunConfig) if name == key.rpartition(".")[2]]
    if len(keys) == 1:
        return f"--set {keys[0]}=VALUE sets it."
    # A recipe's parameters would have to be loaded.
    example = keys[0] if keys else f"params.{name}"
    is_near = error.possibilities and not keys
    return "" if is_near else f"--set sets keys of the configuration, as in --set {example}=VALUE."
