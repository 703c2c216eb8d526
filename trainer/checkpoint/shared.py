"""Which arrays of a checkpoint a new model can start with: those of layers that both have.

Pure, and so the same for all workers of a group. An array is known by its path: its ordinal, the
place among all arrays of the model, moves when the model grows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trainer.errors import CheckpointError

_SHOWN = 12


@dataclass(frozen=True)
class Shared:
    """taken: an array's name in the model -> that in the checkpoint.

    fresh: of the model, which stay as they were built; unused: of the checkpoint.
    """

    taken: dict[str, str]
    fresh: list[str]
    unused: list[str]

    def for_log(self) -> dict[str, object]:
        """Counts, and the first names of each kind."""
        kinds = {"taken": list(self.taken), "fresh": self.fresh, "unused": self.unused}
        return {f"num_{kind}": len(names) for kind, names in kinds.items()} | {
            kind: shown([path_of(name) for name in names]) for kind, names in kinds.items()
        }


def match_shared(model: Mapping[str, str], checkpoint: Mapping[str, str]) -> Shared:
    """Pair arrays of one path and one kind; both map names to dtype and shape, as text.

    A path that is there several times, as in subclassed models, is paired in order where both
    sides have it equally often. Raises CheckpointError where they do not, and for no pair at all.
    """
    ours, theirs = _by_path(model), _by_path(checkpoint)
    taken: dict[str, str] = {}
    for path in [path for path in ours if path in theirs]:
        if len(ours[path]) != len(theirs[path]):
            raise CheckpointError(
                f"train.start_layers: shared cannot tell which array is which: the model has "
                f"'{path}' {len(ours[path])} times, the checkpoint {len(theirs[path])} times: "
                "give the layers names of their own, in both"
            )
        pairs = zip(ours[path], theirs[path], strict=True)
        taken |= {own: other for own, other in pairs if model[own] == checkpoint[other]}
    if not taken:
        raise CheckpointError(
            "train.start_layers: shared finds no array of the checkpoint in the model, by path, "
            f"dtype and shape:\n  checkpoint: {_described(checkpoint)}\n"
            f"  model: {_described(model)}\n"
            "give layers that are to be shared the same names, or start from another run"
        )
    used = set(taken.values())
    return Shared(
        taken,
        fresh=[name for name in model if name not in taken],
        unused=[name for name in checkpoint if name not in used],
    )


def path_of(name: str) -> str:
    """A role/ordinal/path without role and ordinal."""
    return name.split("/", 2)[2]


def shown(texts: list[str]) -> list[str]:
    """The first of them, and how many more there are."""
    more = [f"and {len(texts) - _SHOWN} more"] if len(texts) > _SHOWN else []
    return texts[:_SHOWN] + more


def _by_path(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in sorted(names):  # by ordinal
        found.setdefault(path_of(name), []).append(name)
    return found


def _described(arrays: Mapping[str, str]) -> str:
    texts = [f"{path_of(name)} {kind}" for name, kind in arrays.items()]
    return ", ".join(shown(texts)) or "none"
