"""Prometheus and Alertmanager themselves, over pages of metrics that no training feeds."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge

from tests.emulator import free_port
from tests.monitored import OF_GPUS, ask, monitoring, panels, rules
from trainer.metrics import Metrics
from trainer.metrics.exposition import MetricsServer

pytestmark = pytest.mark.needs_alertmanager

ROOT = Path(__file__).parents[2]
DEADLINE = 60.0


@pytest.fixture
def page():
    """Of a worker with two GPUs."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.set_run_info("demo")
    for gpu in "01":
        metrics.gpu_memory_bytes.set(60e9, gpu=gpu)
        metrics.gpu_memory_peak_bytes.set(70e9, gpu=gpu)
    with served(registry) as port:
        yield metrics, port


@pytest.fixture
def exporter(page):
    """What NVIDIA's exporter tells of that worker's pod, and of one of somebody else."""
    registry = CollectorRegistry()
    labels = ["namespace", "pod", "gpu"]
    utilisation = Gauge("DCGM_FI_DEV_GPU_UTIL", "percent", labels, registry=registry)
    for gpu in "01":
        utilisation.labels("local", f"port-{page[1]}", gpu).set(97)
        utilisation.labels("theirs", "inference", gpu).set(50)
    with served(registry) as port:
        yield port


@contextmanager
def served(registry):
    """Its page's port."""
    server = MetricsServer(registry, port=0)
    server.start()
    try:
        yield server.port
    finally:
        server.close()


def test_a_run_that_fails_is_told_of_by_a_webhook_and_seen_in_panels(page, exporter, tmp_path):
    metrics, port = page
    changes = {"interval": "1s", "window": "10s"}
    with monitoring(tmp_path, [port], changes, [exporter]) as (prometheus, told):
        wait_until(lambda: series(prometheus, "trainer_nonfinite_steps_total == 0"))
        metrics.nonfinite_steps.inc()
        metrics.run_exit_code.set(4)
        wait_until(lambda: told.firing() >= {"TrainingNonFiniteLoss", "JobFailed"})
        assert told.firing() == {"TrainingNonFiniteLoss", "JobFailed"}
        assert {rule["health"] for rule in rules(prometheus)} == {"ok"}
        found = {
            where: sorted(tuple(one["metric"].items()) for one in series(prometheus, expr))
            for where, expr in panels() if "GPU" in where
        }  # fmt: skip
        gpus = [(("gpu", gpu), ("pod", f"port-{port}")) for gpu in "01"]
        assert found == dict.fromkeys(OF_GPUS, gpus)


def test_the_command_starts_both_and_ends_both(tmp_path):
    ports = {"--prometheus-port": free_port(), "--alertmanager-port": free_port()}
    options = [f"{name}={port}" for name, port in ports.items()]
    command = [sys.executable, "scripts/monitoring.py", f"--folder={tmp_path}", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        said = "".join(process.stdout.readline() for _ in range(4))
        for port in ports.values():
            assert f"http://127.0.0.1:{port}" in said
            urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=10).close()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    finally:
        process.kill()
        process.communicate()


def test_a_port_that_is_taken_is_named_with_the_way_out(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "scripts/monitoring.py", f"--folder={tmp_path}",
                   f"--prometheus-port={free_port()}", f"--alertmanager-port={port}"]  # fmt: skip
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE)
    assert found.returncode == 1
    assert found.stderr.startswith(f"make monitoring: port {port} for alertmanager: ")
    assert "--alertmanager-port" in found.stderr


@pytest.mark.parametrize(
    ("option", "code", "said"),
    [
        ("--ports=1-99999", 2, "'99999' is no port: give 1 to 65535"),
        ("--ports=9407-9400", 2, "'9407-9400' is 0 ports: give FIRST-LAST"),
        ("--ports=1-60000", 2, "is 60000 ports: give FIRST-LAST, 1 to 1000"),
        ("--prometheus-port=70000", 2, "'70000' is no port"),
        ("--prometheus-port=9093", 2, "both programs on port 9093"),
        ("--folder=/proc/x", 1, "make monitoring: "),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(option, code, said):
    command = [sys.executable, "scripts/monitoring.py", option]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE)
    assert found.returncode == code
    assert said in found.stderr
    assert "Traceback" not in found.stderr


def test_containers_are_told_where_the_files_are(tmp_path):
    """By a stand-in: images would have to be fetched."""
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\necho "$@"\nls "$FOLDER"\necho $PROMETHEUS_PORT\n')
    docker.chmod(0o755)
    command = [sys.executable, "scripts/monitoring.py", "--containers", f"--folder={tmp_path}/in"]
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    found = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "http://127.0.0.1:3000" in found.stdout
    compose = ROOT / "docker/monitoring/compose.yaml"
    files = "alertmanager.yaml\nprometheus.yaml\nrules.yaml"
    assert found.stdout.endswith(f"compose --file {compose} up\n{files}\n9090\n")


def wait_until(condition):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def series(prometheus, expr):
    return ask(prometheus, "query", query=expr)["result"]
