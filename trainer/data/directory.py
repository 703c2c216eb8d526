"""A data set's folder as TensorFlow Datasets left it, before it has a manifest. No TensorFlow."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from trainer.data.manifest import DATASET_INFO_FILE, MAX_MANIFEST_BYTES, BaseName
from trainer.errors import DataError, ObjectNotFoundError
from trainer.storage import open_storage
from trainer.storage.base import Storage

OnProgress = Callable[[str], None]

_FILE_FORMAT = "tfrecord"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


@dataclass(frozen=True)
class Directory:
    """What dataset_info.json says: name, version, and for every split (file, records).

    config: None for a data set without configurations.
    """

    name: str
    version: str
    splits: dict[str, tuple[tuple[str, int], ...]]
    config: str | None = None


class _Info(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)


class _SplitInfo(_Info):
    name: BaseName
    # Protocol buffers write 64-bit numbers as strings.
    shard_lengths: tuple[Annotated[int, Field(ge=0)], ...] = ()
    filepath_template: str = _TEMPLATE


class _DatasetInfo(_Info):
    name: BaseName
    version: BaseName
    config_name: str | None = None
    file_format: str = _FILE_FORMAT
    splits: tuple[_SplitInfo, ...] = ()


def is_described(url: str) -> bool:
    """Whether TensorFlow Datasets, or `trainer data index`, has said what lies there."""
    try:
        open_storage(url).stat(DATASET_INFO_FILE)
    except ObjectNotFoundError:
        return False
    return True


def read_directory(storage: Storage) -> Directory:
    """Parse dataset_info.json.

    Raises:
        DataError: it is missing or damaged, or the records are not in TFRecord files.
    """
    where = f"{DATASET_INFO_FILE} in {storage.url}"
    try:
        if storage.stat(DATASET_INFO_FILE).size > MAX_MANIFEST_BYTES:
            raise DataError(f"{where} is larger than {MAX_MANIFEST_BYTES} bytes: damaged")
        info = _DatasetInfo.model_validate(json.loads(storage.read(DATASET_INFO_FILE)))
        splits = {split.name: _files(info, split) for split in info.splits}
    except ObjectNotFoundError:
        raise DataError(
            f"no {where}: name the folder that holds it (TensorFlow Datasets writes NAME/VERSION)"
        ) from None
    except (ValueError, KeyError, IndexError, RecursionError) as error:
        raise DataError(
            f"{where} is damaged ({_reason(error)}): write the data set again"
        ) from None
    if info.file_format != _FILE_FORMAT:
        raise DataError(
            f"{where} has records in format '{info.file_format}':"
            f" write the data set again with file_format='{_FILE_FORMAT}'"
        )
    if not splits:
        raise DataError(f"{where} lists no split: write the data set again")
    return Directory(info.name, info.version, splits, info.config_name)


def _files(info: _DatasetInfo, split: _SplitInfo) -> tuple[tuple[str, int], ...]:
    num_shards = len(split.shard_lengths)
    return tuple(
        (
            split.filepath_template.format(
                DATASET=info.name,
                SPLIT=split.name,
                FILEFORMAT=_FILE_FORMAT,
                SHARD_INDEX=f"{shard:05d}",
                NUM_SHARDS=f"{num_shards:05d}",
                SHARD_X_OF_Y=f"{shard:05d}-of-{num_shards:05d}",
            ),
            num_records,
        )
        for shard, num_records in enumerate(split.shard_lengths)
    )


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
