"""Data that several tests share."""

import pytest


@pytest.fixture(scope="session")
def vectors(tmp_path_factory):
    """Folder of 53 + 21 records in uneven shards: nothing divides."""
    from tests.small_training import write_vectors

    folder = tmp_path_factory.mktemp("vectors")
    return write_vectors(folder, {"train": [20, 7, 26], "test": [21]})


@pytest.fixture
def given_back():
    """No run of a script stays held, and no lease is refreshed, after its test."""
    import keras

    import trainer

    # tf.data takes it for a part of a shuffle's seed: as in a new process, whatever ran before.
    keras.utils.set_random_seed(1)
    yield
    trainer.close()
