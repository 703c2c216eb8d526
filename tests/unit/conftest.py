"""Data that several tests share."""

import pytest


@pytest.fixture(scope="session")
def vectors(tmp_path_factory):
    """Folder of 53 + 21 records in uneven shards: nothing divides."""
    from tests.small_training import write_vectors

    folder = tmp_path_factory.mktemp("vectors")
    return write_vectors(folder, {"train": [20, 7, 26], "test": [21]})
