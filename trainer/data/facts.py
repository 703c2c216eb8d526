"""What a data set tells of itself before any record is read: features, classes, statistics."""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from trainer.data.diagnose import Expected, read_features
from trainer.data.manifest import FEATURES_FILE, STATISTICS_FILE, class_names, read_manifest
from trainer.data.verify import read_described
from trainer.errors import ConfigError, DataError
from trainer.storage.base import Storage

_STRICT = ConfigDict(extra="ignore")


@checked(frozen=True, config=_STRICT)
class Statistics:
    """Of one feature's values in the records for training; None where there is no such thing.

    mean, deviation: of numbers that are there, each a number or lists in the feature's shape.
    vocabulary: all different texts, in order, where they are few.
    """

    mean: Any = None
    deviation: Any = None
    vocabulary: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Facts:
    """Features by name, names of classes, and statistics, which `--from` alone has written."""

    features: dict[str, Expected]
    classes: dict[str, tuple[str, ...]]
    statistics: dict[str, Statistics]

    def label(self, wanted: str | None = None) -> Expected:
        """The feature with the class: the wanted one, or the only one; ConfigError without."""
        labels = {name: f for name, f in self.features.items() if f.num_classes is not None}
        if wanted is None and len(labels) == 1:
            return next(iter(labels.values()))
        if wanted not in labels:
            raise ConfigError(
                f"params.label {wanted!r}: the data set's features with classes are"
                f" {', '.join(labels) or 'none'} (of {', '.join(self.features)}): name one, or make"
                " one by 'trainer data prepare --label COLUMN --type COLUMN=class'"
            )
        return labels[wanted]


def read_facts(storage: Storage) -> Facts:
    """Those of the data set in `storage`. Raises DataError when its files are damaged."""
    manifest = read_manifest(storage)
    tree = json.loads(read_described(storage, FEATURES_FILE, manifest.features_sha256))
    features = {f.name: f for f in read_features(tree)}
    statistics: dict[str, Statistics] = {}
    if manifest.statistics_sha256 is not None:
        data = read_described(storage, STATISTICS_FILE, manifest.statistics_sha256)
        try:
            adapter = TypeAdapter(dict[str, Statistics])
            statistics = adapter.validate_python(json.loads(data)["features"])
        except (ValueError, TypeError, KeyError, ValidationError) as error:
            raise DataError(
                f"{STATISTICS_FILE} in {storage.url} is damaged ({type(error).__name__}):"
                " prepare the data set again"
            ) from None
    return Facts(features, class_names(storage), statistics)
