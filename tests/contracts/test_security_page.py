"""What SECURITY.md and docs/compatibility.md say is held by tests that are there."""

import ast
import re

import pytest

from tests.contracts.test_layers import ROOT

PAGES = [ROOT / "SECURITY.md", ROOT / "docs" / "compatibility.md"]
TESTS = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
# They run what is in the data that they read; so do calls of these names.
MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
CALLS = {"compile", "eval", "exec"}
OPTIONS = {("allow_pickle", True), ("safe_mode", False), ("weights_only", False)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page):
    named = re.findall(r"`(test_\w+)(\.py|…)?`", page.read_text())
    functions = set()
    for path in TESTS.values():
        functions |= set(re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.M))
    assert len(named) > 9
    for name, ending in named:
        if ending == ".py":
            assert f"{name}.py" in TESTS
        else:
            assert [each for each in functions if each == name or (ending and name in each)], name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page):
    links = re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", page.read_text())
    assert links
    assert not [link for link in links if not (page.parent / link).exists()]


def runs_data(node):
    """Whether this makes code of data."""
    if isinstance(node, ast.Import):
        return any(alias.name.partition(".")[0] in MODULES for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").partition(".")[0] in MODULES
    if not isinstance(node, ast.Call):
        return False
    options = {(word.arg, getattr(word.value, "value", None)) for word in node.keywords}
    return getattr(node.func, "id", None) in CALLS or bool(options & OPTIONS)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import pickle", True),
        ("from marshal import loads", True),
        ("np.load(file, allow_pickle=True)", True),
        ("eval(text)", True),
        ("model.compile(loss)", False),
        ("np.load(file)", False),
    ],
)
def test_what_makes_code_of_data_is_known(code, found):
    assert any(map(runs_data, ast.walk(ast.parse(code)))) is found


def test_nothing_of_the_package_makes_code_of_data():
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "trainer").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if runs_data(node)
    ]
    assert wrong == []
