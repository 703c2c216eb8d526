"""docs/callbacks.md: its callbacks run as the page says."""

import pytest

from tests.pages import read_page, run_commands, write_files
from trainer.config.models import CALLBACKS
from trainer.run.run_dir import RunDir

PAGE = read_page("callbacks.md")


def test_the_page_names_the_trackers():
    for name in ("wandb", "mlflow"):
        assert f"- name: {name}\n" in PAGE
        assert name in CALLBACKS


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_page_is_run_as_it_stands(tmp_path):
    write_files(PAGE, tmp_path)
    run_commands(PAGE, tmp_path)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    assert RunDir(f"{tmp_path}/runs/told").summary()["epochs"] == 2
