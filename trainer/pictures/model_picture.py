"""`model_picture`: the layers of the model with their shapes, as Keras draws them by Graphviz."""

import inspect
import tempfile
from pathlib import Path
from typing import Any

import keras

from trainer.pictures.picture import Picture

_OPTIONS = {"show_shapes": True, "show_layer_names": True, "dpi": 96}


class ModelPicture(Picture):
    """Drawn before training begins.

    Args:
        file: its name in the folder `pictures/` of the run.
        options: of `keras.utils.plot_model`, as in `expand_nested: true`.
    """

    packages = ("pydot",)
    programs = ("dot",)

    def __init__(self, file: str = "model.png", **options: Any) -> None:
        super().__init__(file)
        known = set(inspect.signature(keras.utils.plot_model).parameters) - {"model", "to_file"}
        if unknown := options.keys() - known:
            raise ValueError(f"no option {', '.join(sorted(unknown))} of keras.utils.plot_model")
        self._options = _OPTIONS | options

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Draw it."""
        self.draw()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Nothing has changed."""

    def render(self) -> bytes:
        """The picture."""
        with tempfile.TemporaryDirectory(prefix="trainer-picture-") as folder:
            path = Path(folder) / self.file
            keras.utils.plot_model(self.model, str(path), **self._options)
            return path.read_bytes()
