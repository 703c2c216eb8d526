"""What `trainer recipes new` writes and refuses, and configurations that other packages bring."""

import re

import pytest

import trainer
from trainer.errors import ConfigError
from trainer.recipes.catalog import config_path, list_recipes
from trainer.recipes.new import check_name, write_package

FILES = [
    ".gitignore",
    "Dockerfile",
    "README.md",
    "pyproject.toml",
    "src/my_digits/__init__.py",
    "src/my_digits/model.py",
    "src/my_digits/my_digits.yaml",
    "src/my_digits/recipe.py",
    "tests/test_my_digits.py",
]


def test_a_package_is_written_with_its_name_in_all_of_it(tmp_path):
    written = write_package("my_digits", tmp_path / "new" / "folder")
    found = [path.relative_to(tmp_path / "new" / "folder").as_posix() for path in written]
    assert sorted(found) == FILES
    texts = {path.name: path.read_text() for path in written}
    assert not [name for name, text in texts.items() if re.search("new_recipe|_version", text)]
    assert f"ARG TRAINER=trainer:{trainer.__version__}\n" in texts["Dockerfile"]
    assert 'my_digits = "my_digits.recipe:recipe"' in texts["pyproject.toml"]


def test_an_empty_folder_is_used(tmp_path):
    assert write_package("my_digits", tmp_path)[0].parent == tmp_path


def test_what_is_there_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ConfigError, match="there already, and not an empty folder"):
            write_package("my_digits", folder)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_where_no_folder_can_be_made_it_says_why(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write to .*file/new: Not a directory"):
        write_package("my_digits", tmp_path / "file" / "new")


# name, what is said
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("My-Digits", "as in 'my_digits'"),
        ("2nd", "as in 'my_2nd'"),
        ("class", "'class' means something else in Python or in YAML: use another name"),
        ("true", "'true' means something else in Python or in YAML: use another name"),
        ("null", "as in 'my_null'"),
        ("yes", "as in 'my_yes'"),
        ("No", "as in 'my_no'"),
        ("my_", "as in 'my'"),
        ("../x", "as in 'x'"),
        ("", "as in 'recipe'"),
        ("digits", "a recipe 'digits' already: use another name, as in 'my_digits'"),
        ("trainer", "a Python module 'trainer' already"),
        ("keras", "a Python module 'keras' already"),
        ("json", "a Python module 'json' already"),
        ("winreg", "a Python module 'winreg' already"),
    ],
)
def test_names_that_cannot_be_are_refused_with_one_that_can(name, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        check_name(name)


def test_a_mere_folder_on_the_path_of_imports_takes_no_name(tmp_path, monkeypatch):
    (tmp_path / "my_digits").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    check_name("my_digits")


@pytest.fixture
def plug(tmp_path, monkeypatch):
    """A function: entry points -> a package `other` that is installed with them; its folder."""

    def install(*entries):
        info = tmp_path / "other-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("\n".join(["[trainer.recipes]", *entries]))
        folder = tmp_path / "other"
        (folder / "inner").mkdir(parents=True)
        (folder / "__init__.py").write_text("raise RuntimeError('imported')")
        (tmp_path / "alone.py").write_text("raise RuntimeError('imported')")
        monkeypatch.syspath_prepend(tmp_path)
        return tmp_path

    return install


# module of the entry point `blobs`, where its configuration lies
@pytest.mark.parametrize(
    ("module", "folder"),
    [
        ("other", "other"),
        ("other.blobs", "other"),
        ("other.inner.blobs", "other/inner"),
        ("alone", "."),
    ],
)
def test_a_plugged_recipe_is_a_run_by_its_name(plug, module, folder):
    found = plug(f"blobs = {module}:recipe") / folder / "blobs.yaml"
    found.write_text("recipe: blobs\n")
    assert config_path("blobs") == found
    (entry,) = [entry for entry in list_recipes() if not entry.is_packaged]
    assert (entry.name, entry.about, entry.has_config) == ("blobs", "from other", True)


def test_a_plugged_recipe_may_come_without_a_configuration(plug):
    plug("blobs = other.blobs:recipe", "lost = no_such_package:recipe")
    for name in ("blobs", "lost"):
        with pytest.raises(ConfigError, match=f"no config comes with recipe '{name}'"):
            config_path(name)
    assert [entry.has_config for entry in list_recipes()[-2:]] == [False, False]
    with pytest.raises(ConfigError, match="did you mean 'blobs'"):
        config_path("blob")


def test_a_plugged_recipe_takes_its_name(plug):
    plug("blobs = other.blobs:recipe")
    with pytest.raises(ConfigError, match="a recipe 'blobs' already"):
        check_name("blobs")


def test_a_name_may_hold_what_stands_for_the_version(tmp_path):
    written = write_package("my_trainer_version", tmp_path / "package")
    (config,) = [path for path in written if path.name == "my_trainer_version.yaml"]
    assert "recipe: my_trainer_version\n" in config.read_text()


def test_a_folder_that_cannot_be_named_so_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot write to"):
        write_package("blobs", tmp_path / ("x" * 300))
