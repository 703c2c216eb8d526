"""Tables: a CSV file, whose columns are texts until all are seen, and a Parquet file."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from trainer.data.own.columns import Column
from trainer.data.own.rows import Row, open_stored, row
from trainer.errors import ConfigError, DataError
from trainer.storage.base import Storage

_BATCH_ROWS = 1000


@dataclass(frozen=True)
class CsvFile:
    """A row for each line, or lines where a quoted value has several; the first names columns."""

    storage: Storage
    file: str
    name: str
    is_typed: bool = False

    def columns(self) -> dict[str, Column | None]:
        """By the first line."""
        text = self._open()
        try:
            header, told = next(csv.reader(text), []), "columns"
        except csv.Error as error:
            header, told = [], f"columns ({error})"
        if len(header) < 2:
            raise DataError(
                f"{self.file}, line 1: {len(header)} {told}: its first line must name the columns,"
                " separated by commas"
            )
        return _named(header, f"{self.file}, line 1")

    def rows(self) -> Iterator[Row]:
        """In their order."""
        reader = csv.reader(self._open(), strict=True)
        header = next(reader, [])
        while True:
            first = reader.line_num + 1
            reason = None
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                reason = str(error)
            place = f"{self.file}, line {first}"
            if reason is None and len(cells) == len(header):
                yield row(place, dict(zip(header, cells, strict=True)))
            elif reason is not None or cells:  # not an empty line
                reason = reason or f"{len(cells)} values for {len(header)} columns"
                lost = max(1, reader.line_num + 1 - first)
                more = f", and what follows to line {reader.line_num}" if lost > 1 else ""
                yield Row(place, reason=reason + more, num_lines=lost)

    def _open(self) -> io.TextIOWrapper:
        stored = open_stored(self.storage, self.file)
        # What is no UTF-8 is one row's matter: see `columns`.
        return io.TextIOWrapper(stored, "utf-8-sig", errors="surrogateescape", newline="")


@dataclass(frozen=True)
class ParquetFile:
    """A row for each of the file's, of which a thousand are in memory at once."""

    storage: Storage
    file: str
    name: str
    is_typed: bool = True

    def columns(self) -> dict[str, Column | None]:
        """By the schema; ConfigError for columns of lists or structures."""
        from pyarrow import types

        schema = self._open().schema_arrow
        for column in schema:
            if types.is_nested(column.type) or types.is_binary(column.type):
                raise ConfigError(
                    f"{self.file}: column '{column.name}' is of type {column.type}: write the file"
                    " without it, or with columns of numbers and texts"
                )
        return _named(schema.names, self.file)

    def rows(self) -> Iterator[Row]:
        """In their order."""
        number, batches = 0, self._open().iter_batches(_BATCH_ROWS)
        while rows := self._next(batches, number):
            for values in rows:
                number += 1
                yield row(f"{self.file}, row {number}", {k: _plain(v) for k, v in values.items()})

    def _next(self, batches: Iterator[Any], number: int) -> list[dict[str, Any]]:
        """The rows after the first `number`; none when there are no more."""
        try:
            for batch in batches:
                if batch.num_rows:
                    return list(batch.to_pylist())
        except (OSError, ValueError) as error:  # pyarrow's own are of these
            raise DataError(
                f"{self.file} cannot be read after row {number}, it is damaged or of values that"
                f" Python does not have: {error}"
            ) from None
        return []

    def _open(self) -> Any:
        try:
            from pyarrow import ArrowInvalid, parquet
        except ImportError:
            raise ConfigError(
                "Parquet files need pyarrow: pip install 'trainer-k8s[parquet]'"
            ) from None
        try:
            return parquet.ParquetFile(open_stored(self.storage, self.file))
        except ArrowInvalid as error:
            raise DataError(f"{self.file} is no Parquet file, or damaged: {error}") from None


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


def _named(header: list[str], place: str) -> dict[str, Column | None]:
    for number, name in enumerate(header):
        if not name.strip() or "/" in name or not name.isprintable() or name in header[:number]:
            raise DataError(
                f"{place}: column {number + 1} is called {name!r}: give each a name of its own,"
                " without '/'"
            )
    return dict.fromkeys(header)
