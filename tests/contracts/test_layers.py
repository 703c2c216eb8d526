"""A module imports only from the layers below it (the contracts are in pyproject.toml)."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_nothing_imports_from_a_layer_above():
    linter = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert linter, "lint-imports is not installed beside this Python: make setup"
    command = [linter, "--no-cache", "--no-logo"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_module_that_imports_has_a_layer():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    placed = set(re.findall(r"[\w.]+", " ".join(settings["contracts"][0]["layers"])))
    names = {
        str(path.relative_to(ROOT / "trainer").with_suffix("")).replace("/", ".")
        for path in (ROOT / "trainer").rglob("*.py")
        if re.search(r"^(import|from) ", path.read_text(), re.MULTILINE)
    }
    # The package itself loads what users' scripts ask it for, by name.
    names.remove("__init__")
    assert placed
    assert not {n for n in names if not any(f"{n}.".startswith(f"{p}.") for p in placed)}
