"""Recipes that other packages plug in by entry points; none of their modules is imported."""

from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

ENTRY_POINTS = "trainer.recipes"


def plugged_recipes() -> dict[str, EntryPoint]:
    """Entry points by the names of their recipes."""
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}


def config_beside(entry: EntryPoint) -> Path | None:
    """NAME.yaml beside the module of recipe NAME: its complete configuration, if it brings one."""
    package, *rest = entry.value.partition(":")[0].split(".")
    spec = find_spec(package)
    if spec is None:
        return None
    # A module alone lies in its folder, all others in those of their package.
    folders = spec.submodule_search_locations or [str(Path(spec.origin or "").parent)]
    files = (Path(folder, *rest[:-1], f"{entry.name}.yaml") for folder in folders)
    return next((file for file in files if file.is_file()), None)
