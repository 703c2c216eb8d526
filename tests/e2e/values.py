"""What the tests tell the chart: three pods that fit two cores."""

from pathlib import Path
from typing import Any

from tests.e2e.run import IMAGE
from tests.e2e.store import BUCKET, DATA, Store

SCRIPT = Path(__file__).with_name("fit_script.py")
RUNS = f"gs://{BUCKET}/runs"
SAVE_EVERY = 20
STEPS = 600
MEMORY_MIB = 1200


def configuration() -> dict[str, Any]:
    """A small run: 600 steps, which take some 30 s on two cores."""
    return {
        "recipe": "fashion_mnist",
        "params": {"filters": 4, "convolutions": 1},
        "data": {
            "url": DATA, "train": "train[:960]", "test": "test[:96]",
            "batch_size": 96, "streams": 12,
        },
        "train": {"epochs": STEPS // 10, "threads": 1},
        "checkpoint": {"every_steps": SAVE_EVERY, "every_epochs": None},
        "export": {"formats": []},
    }  # fmt: skip


def script_values() -> dict[str, Any]:
    """What a run of `SCRIPT` has in the place of a recipe's: as many steps, as often saved."""
    recipes = configuration()
    return {
        "config": {"train": {"threads": 1}, "checkpoint": recipes["checkpoint"]},
        "script": {"args": ["--epochs", str(recipes["train"]["epochs"])]},
    }


def variables(environment: dict[str, str]) -> list[dict[str, str]]:
    """An environment as pods are told it."""
    return [{"name": name, "value": text} for name, text in environment.items()]


def chart_values(store: Store) -> dict[str, Any]:
    """All values of a release."""
    repository, _, tag = IMAGE.rpartition(":")
    return {
        "image": {"repository": repository, "tag": tag},
        "workers": 3,
        "run": {"base": RUNS},
        "config": configuration(),
        "extraEnv": variables(store.environment),
        "resources": {
            "requests": {"cpu": "300m", "memory": "600Mi"},
            "limits": {"memory": f"{MEMORY_MIB}Mi"},
        },
    }
