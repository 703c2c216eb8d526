"""Averaged weights (EMA) through whole runs; step by step they are in test_optimizers.py."""

from typing import Any

import keras
import pytest

from tests.small_training import Run, compiled, cpus, dataset_of, distance, same_weights


@pytest.mark.long
@pytest.mark.parametrize("every", [None, 3])
def test_averaged_weights_are_those_of_fit(vectors: str, every: int | None) -> None:
    average = {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": every}

    def trained_by(engine: Any, replicas: int = 1) -> tuple[Any, Any]:
        strategy = cpus(replicas)
        model = compiled(strategy, optimizer=lambda: keras.optimizers.Adam(0.02, **average))
        run = Run(dataset_of(vectors), epochs=3, validation="test")
        return model, engine(run, model, strategy).epoch_logs

    (fitted, wanted), (ours, logs), (two, _) = (
        trained_by(Run.fit), trained_by(Run.loop), trained_by(Run.loop, 2)
    )  # fmt: skip
    assert same_weights(ours, fitted)
    # Validation is of the weights that are trained, not of their averages.
    assert logs["val_loss"] == pytest.approx(wanted["val_loss"], abs=1e-6)
    assert distance(two, fitted) < 1e-6
