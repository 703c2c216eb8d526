"""From files and --set to a checked configuration, or to one line for every wrong key."""

from pathlib import Path

import pytest
from pydantic import Field

from trainer.config import (
    RunConfig,
    Section,
    apply_overrides,
    changeable,
    check_same_run,
    dump,
    free,
    identity,
    load_config,
    parse_yaml,
    validate,
)
from trainer.errors import CheckpointError, ConfigError

TREE = {
    "recipe": "r",
    "data": {"url": "/d", "batch_size": 64},
    "train": {"epochs": 2},
}
QUOTES = "(in quotes it is text)"
STREAMS = (
    "batch_size 100 cannot be split over 8 streams: use a multiple of 8 (96 or 104), "
    "or other data.streams"
)

NEAR = "unknown callback 'early_stoping': did you mean 'early_stopping'? (or package.module:Class)"
NOT_NEAR = (
    "unknown callback 'a:b-c': use one of confusion_matrix, csv_logger, early_stopping, "
    "loss_curves, loss_history, mlflow, model_checkpoint, model_picture, predictions, "
    "reduce_lr_on_plateau, tensorboard, terminate_on_nan, wandb (or package.module:Class)"
)


class Params(Section):
    width: int = identity(3, help="Width.")
    rate: float = changeable(0.1, help="Rate.")
    note: str = free("", help="Note.")
    plain: int = 1
    table: dict[str, int] = Field({})


def checked(*overrides):
    return validate(RunConfig, apply_overrides(TREE, overrides), source="run.yaml")


def refusal(*overrides):
    with pytest.raises(ConfigError) as caught:
        checked(*overrides)
    return str(caught.value)


# --set, message after the source
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epohcs=3", "unknown key 'train.epohcs': did you mean 'train.epochs'?"),
        ("epochs=3", "unknown key 'epochs': did you mean 'train.epochs'?"),
        ("checkpont.keep_last=3", "unknown key 'checkpont': did you mean 'checkpoint'?"),
        ("zzz=1", f"unknown key 'zzz': use one of {', '.join(RunConfig.model_fields)}"),
        ("log.lr=3", "unknown key 'log.lr': use one of log.format, log.every_seconds, log.keep"),
        ("data.uri=/d", "unknown key 'data.uri': did you mean 'data.url'?"),
        ("checkpoint.best={metrc: x}",
         "unknown key 'checkpoint.best.metrc': did you mean 'checkpoint.best.metric'?"),
        ("callbacks=[{name: a:b, agrs: {}}]",
         "unknown key 'callbacks.0.agrs': did you mean 'callbacks.args'?"),
        ("callbacks=[{}]", "'callbacks.0.name' is missing"),
        ("callbacks=[{name: early_stoping}]", f"callbacks.0.name: {NEAR}"),
        ("callbacks=[{name: 'a:b-c'}]", f"callbacks.0.name: {NOT_NEAR}"),
        ("train.epochs=ten", "'train.epochs' is 'ten': must be a whole number"),
        ("train.epochs=1.5", "'train.epochs' is 1.5: must be a whole number"),
        ("train.epochs=0", "'train.epochs' is 0: must be at least 1"),
        ("train.epochs='5'", "'train.epochs' is '5': must be a whole number"),
        ("train.steps_per_call=fast",
         "'train.steps_per_call' is 'fast': must be a whole number or 'auto'"),
        ("train.steps_per_call=0", "train.steps_per_call: must be 1 or more, or auto"),
        ("checkpoint.every_seconds=soon",
         "'checkpoint.every_seconds' is 'soon': must be a number or 'auto'"),
        ("train.deterministic=1", "'train.deterministic' is 1: must be true or false"),
        ("train.precision=float16",
         "'train.precision' is 'float16': must be 'float32', 'mixed_bfloat16' or 'mixed_float16'"),
        ("run.name=12", f"'run.name' is 12: must be text {QUOTES}"),
        ("run.name=true", f"'run.name' is true: must be text {QUOTES}"),
        ("log.format=on", "'log.format' is 'on': must be 'auto', 'text' or 'json'"),
        ("train.deterministic=no", "'train.deterministic' is 'no': must be true or false"),
        ("train.seed=1:30", "'train.seed' is '1:30': must be a whole number"),
        ("train=3", "'train' is 3: must be a section of keys"),
        ("callbacks=3", "'callbacks' is 3: must be a list"),
        ("metrics.labels={int: 5}", f"'metrics.labels.int' is 5: must be text {QUOTES}"),
        ("data.batch_size=100", f"data: {STREAMS}"),
        ("train.seed=Pa55word!",
         "'train.seed' is a text that is not shown: must be a whole number"),
    ],
)  # fmt: skip
def test_one_wrong_key(override, message):
    assert refusal(override) == f"run.yaml: {message}"


def test_every_wrong_key_has_a_line():
    text = refusal("train.epochs=ten", "data.batchsize=1", "log.format=xml")
    assert text.splitlines() == [
        "run.yaml:",
        "  unknown key 'data.batchsize': did you mean 'data.batch_size'?",
        "  'train.epochs' is 'ten': must be a whole number",
        "  'log.format' is 'xml': must be 'auto', 'text' or 'json'",
    ]


def test_a_missing_key_is_named():
    with pytest.raises(ConfigError, match=r"run.yaml: 'train.epochs' is missing"):
        validate(RunConfig, {**TREE, "train": {}}, source="run.yaml")


def test_values_stay_out_of_what_a_traceback_shows():
    with pytest.raises(ConfigError) as caught:
        checked("train.seed=hunter2!")
    error, shown = caught.value, []
    while error is not None:
        shown.append(repr(error) + str(error))
        error = error.__cause__ or error.__context__
    assert "hunter2" not in "".join(shown)


# --set, resulting tree
@pytest.mark.parametrize(
    ("override", "tree"),
    [
        ("a.b=2", {"a": {"b": 2}, "c": [{"d": 3}]}),
        ("x.y.z=q", {"a": {"b": 1}, "c": [{"d": 3}], "x": {"y": {"z": "q"}}}),
        ("c.0.d=4", {"a": {"b": 1}, "c": [{"d": 4}]}),
        ("a={}", {"a": {}, "c": [{"d": 3}]}),
        ("a.b=", {"a": {"b": None}, "c": [{"d": 3}]}),
        ("a.b=x=y", {"a": {"b": "x=y"}, "c": [{"d": 3}]}),
    ],
)
def test_override(override, tree):
    before = {"a": {"b": 1}, "c": [{"d": 3}]}
    assert apply_overrides(before, [override]) == tree
    assert before == {"a": {"b": 1}, "c": [{"d": 3}]}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("hunter2", "--set needs KEY=VALUE"),
        ("=hunter2", "--set needs KEY=VALUE"),
        ("a..b=1", "--set needs KEY=VALUE"),
        ("a.b.c=1", "--set a.b.c: a.b is no section"),
        ("c.1.d=1", "--set c.1: c is a list of 1"),
        ("c.x=1", "--set c.x: c is a list of 1"),
        ("a.b=[", "--set a.b line 1"),
    ],
)
def test_override_that_is_refused(override, message):
    with pytest.raises(ConfigError) as caught:
        apply_overrides({"a": {"b": 1}, "c": [{"d": 3}]}, [override])
    assert str(caught.value).startswith(message)
    assert "hunter2" not in str(caught.value)


def test_dump_is_read_back_as_the_same_configuration():
    config = checked("callbacks=[{name: early_stopping, args: {patience: 3}}]", "run.name='1e-3'")
    assert validate(RunConfig, parse_yaml(dump(config), "dump"), source="dump") == config


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a", "must hold a mapping"),
        (b"", "must hold a mapping"),
        (b"\xff", "not UTF-8 text"),
        (b"a: 1\n" + b"#" * (1 << 20), "larger than"),
    ],
)
def test_file_that_is_refused(content, message, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_file_that_is_missing():
    with pytest.raises(ConfigError, match="cannot read config /nowhere: No such file"):
        load_config(Path("/nowhere"))


def runs(**params):
    base = {"params": Params().model_dump()}
    return (
        checked().model_copy(update=base),
        checked().model_copy(update={"params": {**base["params"], **params}}),
    )


@pytest.mark.parametrize("key", ["width", "plain"])
def test_identity_is_refused_with_a_diff(key):
    old, new = runs(**{key: 9})
    with pytest.raises(CheckpointError) as caught:
        check_same_run(old, new, Params, [])
    assert f"  params.{key}: " in str(caught.value)
    assert "--allow-change" not in str(caught.value)
    assert "train.start_from=runs/local" in str(caught.value)
    assert "train.start_layers=shared" in str(caught.value)


def test_another_recipe_is_all_that_is_said_of_it():
    old, new = runs(width=9)
    with pytest.raises(CheckpointError) as caught:
        check_same_run(old, new.model_copy(update={"recipe": "mine:recipe"}), Params, [])
    assert str(caught.value) == (
        "run runs/local is of another recipe, 'r', not 'mine:recipe': set run.dir to another folder"
    )


def test_a_key_inside_of_a_mapping_is_of_the_mappings_kind():
    old, new = runs(table={"a": 1})
    with pytest.raises(CheckpointError, match=r"params.table.a: null -> 1"):
        check_same_run(old, new, Params, [])


def test_free_keys_may_change():
    old, new = runs(note="x")
    new = new.model_copy(update={"train": new.train.model_copy(update={"epochs": 9})})
    assert check_same_run(old, new, Params, []) == {}


def test_changeable_needs_to_be_allowed():
    old, new = runs(rate=0.2)
    with pytest.raises(CheckpointError, match=r"--allow-change params\.rate"):
        check_same_run(old, new, Params, [])
    assert check_same_run(old, new, Params, ["params.rate"]) == {"params.rate": (0.1, 0.2)}


def test_allowing_an_identity_key_is_refused():
    old, new = runs(width=9)
    with pytest.raises(ConfigError, match=r"only these may change: .*, params\.rate"):
        check_same_run(old, new, Params, ["params.width"])


def test_changed_callbacks_are_named():
    base = {"params": Params().model_dump()}
    old, new = (
        checked(f"callbacks={callbacks}").model_copy(update=base)
        for callbacks in (
            "[{name: csv_logger, args: {filename: secret}}]",
            "[{name: loss_curves}, {name: csv_logger}]",
        )
    )
    with pytest.raises(CheckpointError) as raised:
        check_same_run(old, new, Params, [])
    assert "callbacks: [csv_logger] -> [loss_curves, csv_logger]" in str(raised.value)
    assert "secret" not in str(raised.value)
