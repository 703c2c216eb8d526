"""Surfaces stay as they are, unless `make goldens` says that the change is meant."""

import pytest

from tests.contracts.goldens import FOLDER, goldens


@pytest.mark.parametrize("name", goldens())
def test_surface_is_as_recorded(name):
    assert goldens()[name] == (FOLDER / name).read_text(), "meant? make goldens"


def test_every_recorded_file_is_compared():
    assert {path.name for path in FOLDER.iterdir() if path.is_file()} == set(goldens())
