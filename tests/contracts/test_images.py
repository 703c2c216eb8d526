"""Images in the repository, those of the data sets and those of the pages, stay small in all."""

from tests.contracts.test_layers import ROOT

LIMIT = 6_000_000
SETS = ("digits", "fashion_mnist", "mnist", "photos")


def test_images_are_under_6_megabytes_in_all():
    folders = [ROOT / "trainer" / "data" / "embedded" / name for name in SETS]
    folders.append(ROOT / "docs" / "pictures")
    sizes = [[f.stat().st_size for f in folder.rglob("*") if f.is_file()] for folder in folders]
    assert all(sizes)
    assert sum(map(sum, sizes)) < LIMIT
