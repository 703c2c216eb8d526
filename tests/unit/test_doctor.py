"""`trainer doctor` on this machine: of a recipe's run and of a script's, and the metrics port."""

import json
import socket

import pytest
from click.testing import CliRunner

from trainer.cli.doctor import doctor

SCRIPT = "import trainer\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "run.yaml").write_text("checkpoint: {every_steps: 10}\n")
    return tmp_path


def examine(*args):
    """The exit code, and what was found by name of the check."""
    result = CliRunner().invoke(doctor, ["--json", *args])
    assert result.stdout, result.output
    return result.exit_code, {found["check"]: found for found in json.loads(result.stdout)}


def test_a_scripts_run_is_examined_as_trainer_run_reads_it(folder):
    args = ("-c", "run.yaml", "--set", "run.dir=runs/mine", "train.py", "--epochs", "5")
    code, found = examine(*args)
    assert code == 0, found
    assert found.keys() == {"configuration", "packages", "run", "metrics port"}
    assert found["configuration"]["detail"] == "script train.py, run mine"
    assert "runs/mine can be gone on with" in found["run"]["detail"]
    assert not (folder / "runs").exists()


def test_a_script_needs_no_file_of_keys(folder):
    code, found = examine("--set=metrics.enabled=false", "train.py")
    assert code == 0, found
    assert "runs/train can" in found["run"]["detail"]


def test_what_a_scripts_run_would_be_refused_for_is_told(folder):
    result = CliRunner().invoke(doctor, ["--set=train.epochs=3", "train.py"])
    assert "give epochs to trainer.fit" in str(result.exception)
    result = CliRunner().invoke(doctor, ["none.py"])
    assert "cannot read script none.py" in str(result.exception)


def test_without_either_it_says_what_is_missing():
    result = CliRunner().invoke(doctor, [])
    assert result.exit_code == 2
    assert "Missing option '-c' / '--config', or a script" in result.output


def examine_port(address, port):
    settings = ("--set", f"metrics.address={json.dumps(address)}", f"--set=metrics.port={port}")
    code, found = examine(*settings, "train.py")
    return code, found["metrics port"]["detail"]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::"])
def test_a_port_is_free_or_taken_in_its_own_family(folder, address):
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with server as taken:
        port = taken.getsockname()[1]
        code, detail = examine_port(address, port)
    assert code == 0  # training goes on without the page
    assert detail.startswith(f"port {port} of {address} is {'taken' if ':' in address else 'free'}")
    assert examine_port(address, port) == (0, f"port {port} of {address} is free")


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_an_address_of_another_host_is_what_a_start_would_end_with(folder, address):
    code, detail = examine_port(address, 9400)
    assert code == 2
    assert f"cannot be served on {address}, port 9400" in detail
