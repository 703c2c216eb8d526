"""Prometheus and Alertmanager for runs on this machine, with the chart's rules; ends with Ctrl-C.

By the programs of `make tools`, or by containers (docker/monitoring/compose.yaml), with Grafana and
the dashboards then. What they have collected stays in .monitoring.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "helm" / "trainer-monitoring"
COMPOSE = ROOT / "docker" / "monitoring" / "compose.yaml"
OF_RUN = "* on (job, namespace, pod, instance) group_left (run) trainer_run_info"
# Runs on one machine are short, and looked at while they last.
LOCAL = {"interval": "5s", "window": "30s"}
START_SECONDS = 30
MOST_PORTS = 1000
_PLACEHOLDER = re.compile(r"\$\{([\w.]+)\}")


def rules(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The chart's file of rules, as its template makes it; changes are of its value `rules`."""
    values = _merged(yaml.safe_load((CHART / "values.yaml").read_text())["rules"], changes)
    known = {"ofRun": OF_RUN, "window": values["window"]} | {
        f"{alert}.{key}": str(value)
        for alert, settings in values["alerts"].items() for key, value in settings.items()
    }  # fmt: skip
    made = []
    for name in ("recorded", "alerts"):
        text = (CHART / "rules" / f"{name}.yaml").read_text()
        made += yaml.safe_load(_PLACEHOLDER.sub(lambda found: known.get(found[1], found[0]), text))
    kept = [rule for rule in made if rule.get("alert") not in values["disabled"]]
    for rule in kept:
        if "alert" in rule:
            url = f"{values['runbook']}#{rule['alert'].lower()}"
            rule["annotations"]["runbook_url"] = url
    return {"groups": [{"name": "trainer", "interval": values["interval"], "rules": kept}]}


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    deeper = {
        key: _merged(values[key], change) if isinstance(change, Mapping) else change
        for key, change in changes.items()
    }
    return {**values, **deeper}


@dataclass(frozen=True)
class Stack:
    """Where the two listen."""

    prometheus: str
    alertmanager: str


@dataclass(frozen=True)
class Settings:
    """What is scraped, how often, by which rules, and who is told of alerts.

    targets: HOST:PORT; a pod's name is made of the port. changes: of the chart's value `rules`.
    exporters: HOST:PORT of pages that tell of other pods, as dcgm-exporter's.
    """

    targets: Sequence[str]
    interval: str = "5s"
    changes: Mapping[str, Any] | None = None
    webhook: str | None = None
    prometheus_port: int = 9090
    alertmanager_port: int = 9093
    exporters: Sequence[str] = ()

    def write(self, folder: Path) -> None:
        """The files of both programs."""
        folder.mkdir(parents=True, exist_ok=True)
        files = {
            "prometheus.yaml": self._prometheus(),
            "alertmanager.yaml": self._alertmanager(),
            "rules.yaml": rules(LOCAL if self.changes is None else self.changes),
        }
        for name, content in files.items():
            (folder / name).write_text(yaml.safe_dump(content, sort_keys=False, width=100))

    def _prometheus(self) -> dict[str, Any]:
        pod = {
            "source_labels": ["__address__"], "regex": r".*:(\d+)", "replacement": "port-$1",
            "target_label": "pod",
        }  # fmt: skip
        runs = {
            "job_name": "trainer",
            "static_configs": [{"targets": [*self.targets], "labels": {"namespace": "local"}}],
            "relabel_configs": [pod],
        }
        # Of the pages themselves, as a ServiceMonitor gives them; what a page says comes first.
        theirs = {"namespace": "monitoring", "pod": "exporter"}
        exporters = {
            "job_name": "exporters",
            "honor_labels": True,
            "static_configs": [{"targets": [*self.exporters], "labels": theirs}],
        }
        alertmanager = {"targets": [f"127.0.0.1:{self.alertmanager_port}"]}
        return {
            "global": {"scrape_interval": self.interval, "scrape_timeout": self.interval},
            "rule_files": ["rules.yaml"],
            "alerting": {"alertmanagers": [{"static_configs": [alertmanager]}]},
            "scrape_configs": [runs, exporters],
        }

    def _alertmanager(self) -> dict[str, Any]:
        receiver: dict[str, Any] = {"name": "local"}
        if self.webhook is not None:
            receiver["webhook_configs"] = [{"url": self.webhook, "send_resolved": True}]
        route = {
            "receiver": "local", "group_by": ["alertname", "namespace", "run"],
            "group_wait": "1s", "group_interval": "5s", "repeat_interval": "1h",
        }  # fmt: skip
        return {"route": route, "receivers": [receiver]}


@contextmanager
def stack(folder: Path, settings: Settings) -> Iterator[Stack]:
    """Both run while the context does. Raises RuntimeError, with why, if one does not start."""
    settings.write(folder)
    ports = {"prometheus": settings.prometheus_port, "alertmanager": settings.alertmanager_port}
    for name, port in ports.items():
        _check_free(name, port)
    here = Stack(**{name: f"http://127.0.0.1:{port}" for name, port in ports.items()})
    commands = {
        "prometheus": [
            "prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=data",
            f"--web.listen-address={here.prometheus.removeprefix('http://')}",
        ],
        "alertmanager": [
            _alertmanager() or "alertmanager", "--config.file=alertmanager.yaml",
            "--storage.path=alerts", "--cluster.listen-address=",
            f"--web.listen-address={here.alertmanager.removeprefix('http://')}",
        ],
    }  # fmt: skip
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            with (folder / f"{name}.log").open("wb") as log:
                running[name] = subprocess.Popen(
                    command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,  # a Ctrl-C is for whoever ends them
                )  # fmt: skip
        for name, url in (("prometheus", here.prometheus), ("alertmanager", here.alertmanager)):
            _wait_until_ready(running[name], url, folder / f"{name}.log")
        yield here
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            try:
                process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _check_free(name: str, port: int) -> None:
    # Whoever listens there might answer in its place.
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise RuntimeError(
            f"port {port} for {name}: {error.strerror}: choose another by --{name}-port"
        ) from error


def _alertmanager() -> str | None:
    # Debian's name of it comes first.
    return shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=5):
            return
        time.sleep(0.05)
    last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
    raise RuntimeError(f"{log.stem} is not ready at {url} (exit code {process.poll()}):\n{last}")


def by_containers(folder: Path, settings: Settings) -> int:
    """The same by containers, and Grafana; until Ctrl-C."""
    settings.write(folder)
    environ = {
        **os.environ, "FOLDER": str(folder), "PROMETHEUS_PORT": str(settings.prometheus_port),
        "ALERTMANAGER_PORT": str(settings.alertmanager_port),
    }  # fmt: skip
    command = ["docker", "compose", "--file", str(COMPOSE), "up"]
    process = subprocess.Popen(command, env=environ, start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        return 0


def port_range(text: str) -> range:
    """Ports FIRST to LAST, or one; ArgumentTypeError for what is neither."""
    first, _, last = text.partition("-")
    ports = range(port_number(first), port_number(last or first) + 1)
    if not 0 < len(ports) <= MOST_PORTS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is {len(ports)} ports: give FIRST-LAST, 1 to {MOST_PORTS} of them"
        )
    return ports


def port_number(text: str) -> int:
    """One of 1 to 65535; ArgumentTypeError for what is none."""
    if not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give 1 to 65535")
    return int(text)


def main(arguments: Sequence[str]) -> int:
    """`make monitoring`; the exit code."""
    parser = argparse.ArgumentParser(prog="make monitoring", description=__doc__)
    parser.add_argument(
        "--ports", type=port_range, default="9400-9407", help="of the runs' pages (metrics.port)"
    )
    parser.add_argument("--prometheus-port", type=port_number, default=9090)
    parser.add_argument("--alertmanager-port", type=port_number, default=9093)
    parser.add_argument("--webhook", help="a URL that is told of alerts")
    parser.add_argument("--folder", type=Path, default=ROOT / ".monitoring")
    parser.add_argument("--containers", action="store_true", help="also where the programs are")
    given = parser.parse_args(arguments)
    if given.prometheus_port == given.alertmanager_port:
        parser.error(f"both programs on port {given.prometheus_port}: choose another for one")
    settings = Settings(
        [f"127.0.0.1:{port}" for port in given.ports],
        webhook=given.webhook, prometheus_port=given.prometheus_port,
        alertmanager_port=given.alertmanager_port,
    )  # fmt: skip
    folder = given.folder.resolve()
    said = (
        f"Prometheus:    http://127.0.0.1:{given.prometheus_port}\n"
        f"Alertmanager:  http://127.0.0.1:{given.alertmanager_port}\n"
        f"Runs on ports: {given.ports[0]} to {given.ports[-1]}, as of `make local-run`\n"
        "Ctrl-C ends them."
    )
    has_programs = shutil.which("prometheus") and _alertmanager()
    if given.containers or not has_programs:
        if not shutil.which("docker"):
            return _failed("prometheus and alertmanager are missing: make tools, or Docker", 2)
        print(f"Grafana:       http://127.0.0.1:3000\n{said}", flush=True)
        return by_containers(folder, settings)
    try:
        with suppress(KeyboardInterrupt), stack(folder, settings):
            print(said, flush=True)
            signal.pause()
    except (RuntimeError, OSError) as error:
        return _failed(str(error), 1)
    return 0


def _failed(reason: str, code: int) -> int:
    print(f"make monitoring: {reason}", file=sys.stderr)
    return code


if __name__ == "__main__":
    # SIGINT, too: it is ignored in what a shell starts in the background.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    raise SystemExit(main(sys.argv[1:]))
