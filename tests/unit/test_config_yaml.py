"""YAML as configurations use it."""

import pytest
import yaml

from trainer.config.yaml_text import dump_yaml, parse_yaml
from trainer.errors import ConfigError


# text, value
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-2E+4", -20000.0),
        ("010", 10),
        ("0o17", 15),
        ("0x1f", 31),
        ("-.5", -0.5),
        ("3.", 3.0),
        (".inf", float("inf")),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2024-01-31", "2024-01-31"),
        ("train[:90%]", "train[:90%]"),
        ("True", True),
        ("on", "on"),
        ("<<", "<<"),
        ("=", "="),
        ("", None),
    ],
)
def test_scalar(text, value):
    assert parse_yaml(text, "test") == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", " line 3, column 1: key 'a' appears twice: keep one"),
        ("x:\n  7: 1", " line 2, column 3: a key that is not text: write it in quotes"),
        ("a: &x 1\nb: *x", " line 2, column 4: an alias (*): write out the value"),
        ("!!python/object:os.system {}", " line 1, column 1: a tag (!): write the plain value"),
        ("a: !!int x", " line 1, column 4: a tag (!): write the plain value"),
        ("a: [1, 2\nb: 3", " line 1, column 4: a bracket that is not closed: "),
        ("a: 'x\nb: 3", " line 1, column 4: a quote that is not closed: "),
        ("a: 1\nb\nc: 1", " line 2, column 1: a key without its ':': write KEY: VALUE"),
        ("a: b: c", " line 1, column 5: a ':' that cannot stand here: "),
        ("a:\n  b: 1\n c: 1", " line 3, column 2: a line that does not belong to those above: "),
        ("a:\n\tb: 1", " line 2, column 1: a tab, or a sign that no value begins with: "),
        ("a: 1\n---\nb: 2", " line 2, column 1: a second document (---): keep one"),
        ('a: "\\q"', " line 1, column 6: not YAML: "),
        ("a: 1\nb: \1", " line 2: a character that is not printable: remove it"),
        ("[" * 5000, ": nested too deeply"),
        ("9" * 5000, " line 1, column 1: a number of too many digits: write a shorter one"),
    ],
)
def test_refusal(text, message):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "file")
    assert str(caught.value).startswith(f"file{message}")


@pytest.mark.parametrize(
    "text", ["hunter2: [", "a: *hunter2", "!hunter2 x", "'hunter2", "%hunter2"]
)
def test_errors_show_nothing_of_the_text(text):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "file")
    assert "hunter2" not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.mark.parametrize(
    "value", ["1e-3", "on", "010", "0o7", "1:30", "2024-01-31", "null", "", "12", "é", 1e-5, 10**20]
)
def test_what_is_written_is_read_unchanged(value):
    tree = {"a": value, "b": [{"c": value}] * 2}
    assert parse_yaml(dump_yaml(tree), "test") == tree
    assert yaml.safe_load(dump_yaml(tree)) == tree  # by YAML 1.1
