"""Images in folders that are called as their classes: DIR/CLASS/FILE or DIR/SPLIT/CLASS/FILE."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from trainer.data.own.columns import Column
from trainer.data.own.rows import Row
from trainer.errors import DataError
from trainer.storage.base import Entry, Storage

LABEL = "label"
SPLITS = ("train", "validation", "valid", "val", "test")
# What TensorFlow decodes as one picture.
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


@dataclass(frozen=True)
class ImageFolder:
    """A row for each file: its path tells its class, its bytes are read when they are needed."""

    storage: Storage
    name: str
    is_typed: bool = True

    def columns(self) -> dict[str, Column | None]:
        """An image of any size, and its class."""
        return {"image": Column("image", "image", (None, None, 3)), LABEL: None}

    def rows(self) -> Iterator[Row]:
        """In the order of paths; files whose names begin with a dot are no part of it."""
        has_splits, is_empty = None, True
        nameless: list[str] = []
        for entry in self.storage.list(pass_over=nameless.append):
            yield from _broken(self.storage.url, nameless)
            parts = entry.path.split("/")
            if _is_hidden(entry.path):
                continue
            is_empty = False
            # Strays do not tell: a README beside the folders, say.
            if has_splits is None and (len(parts) == 2 or parts[0] in SPLITS):
                has_splits = len(parts) == 3
            yield self._row(entry, parts, has_splits=bool(has_splits))
        yield from _broken(self.storage.url, nameless)
        if is_empty:
            raise DataError(
                f"no files in {self.storage.url}: put images into folders that are called as their"
                " classes, DIR/CLASS/FILE, or DIR/SPLIT/CLASS/FILE with train, validation and test"
            )

    def _row(self, entry: Entry, parts: list[str], *, has_splits: bool) -> Row:
        place = f"{self.storage.url}/{entry.path}"
        split, own = (parts[0], parts[1:]) if has_splits else (None, parts)
        if len(own) != 2 or (has_splits and split not in SPLITS):
            form = "SPLIT/CLASS/FILE" if has_splits else "CLASS/FILE"
            return Row(place, reason=f"it is not {form} as the others are")
        if not own[1].lower().endswith(_SUFFIXES):
            return Row(place, reason=f"it is no file of the kinds {', '.join(_SUFFIXES)}")
        read = partial(self.storage.read, entry.path)
        values = {"image": read, LABEL: own[0]}
        return Row(place, values, "/".join(own).encode(), split, size=entry.size)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _broken(url: str, nameless: list[str]) -> Iterator[Row]:
    """Rows for what cannot be a record's path, and forget it: each is told once."""
    for path in nameless:
        # Some buckets have an empty object "FOLDER/" for each folder.
        if not _is_hidden(path) and not path.endswith("/"):
            place = f"{url}/{repr(path)[1:-1]}"
            yield Row(place, reason="its name has characters that no path may have: rename it")
    nameless.clear()
