"""YAML as configurations use it."""

import pytest

from trainer.config.yaml_text import dump_yaml, parse_yaml
from trainer.errors import ConfigError


# text, value
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-2E+4", -20000.0),
        ("2024-01-31", "2024-01-31"),
        ("train[:90%]", "train[:90%]"),
        ("N", "N"),
        ("on", True),
        ("'on'", "on"),
        ("", None),
    ],
)
def test_scalar(text, value):
    assert parse_yaml(text, "test") == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "file: key 'a' appears twice, the second time in line 3"),
        ("on: 1", "file: a key in line 1 is a boolean"),
        ("x:\n  7: 1", "file: a key in line 2 is a int, not text: write it in quotes"),
        ("a: &x 1\nb: *x", "file: an alias (*) in line 2"),
        ("a: [", "file line 1: "),
        ("[" * 5000, "file: nested too deeply"),
        ("9" * 5000, "file: holds a number or a date that cannot be read"),
        ("!!python/object:os.system {}", "could not determine a constructor for the tag"),
    ],
)
def test_refusal(text, message):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "file")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text", ["hunter2: [", "a: *hunter2", "!hunter2 x", "'hunter2", "%hunter2"]
)
def test_errors_show_nothing_of_the_text(text):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "file")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("value", ["1e-3", "on", "2024-01-31", "null", "", "12", "é", 1e-5, 10**20])
def test_what_is_written_is_read_unchanged(value):
    tree = {"a": value, "b": [{"c": value}] * 2}
    assert parse_yaml(dump_yaml(tree), "test") == tree
