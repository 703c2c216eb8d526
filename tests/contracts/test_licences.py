"""Nothing comes with the trainer whose licence is unknown, or asks for what we do not give."""

import pytest

from scripts.licences import DATA, EMBEDDED, REASONS, extras, licence, locked, refused

PACKAGES = sorted({**locked("cpu"), **locked("gpu"), **extras()})


@pytest.mark.parametrize("name", PACKAGES)
def test_a_dependency_has_a_licence_that_is_allowed(name):
    assert licence(name)
    assert not refused(licence(name))


@pytest.mark.parametrize(
    ("expression", "left"),
    [
        ("MIT", set()),
        ("MPL-2.0 AND MIT", set()),
        ("GPL-3.0-or-later OR MIT", set()),
        ("GPL-3.0-or-later", {"GPL-3.0-or-later"}),
        ("Apache-2.0 AND AGPL-3.0-only", {"AGPL-3.0-only"}),
        ("Proprietary", {"Proprietary"}),
        ("", {""}),
    ],
)
def test_what_is_refused(expression, left):
    assert refused(expression) == left


def test_every_reason_is_needed():
    said = [licence(name) for name in PACKAGES]
    assert all(any(spdx in each for each in said) for spdx in REASONS)


def test_every_embedded_data_set_is_listed_with_its_licence_beside_it():
    folders = [path for path in EMBEDDED.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert {folder.name for folder in folders} == set(DATA)
    assert all((folder / name).is_file() for folder in folders for name in ("LICENSE", "NOTICE"))
