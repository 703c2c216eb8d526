"""A real Prometheus and Alertmanager on loopback, whom they tell of alerts, and what they say."""

import json
import re
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from scripts.monitoring import Settings, Stack, stack
from tests.emulator import free_port

DASHBOARDS = sorted((Path(__file__).parents[1] / "helm/trainer-monitoring/dashboards").iterdir())
# What Grafana puts in place of its own variables, and of those of the dashboards.
_VARIABLES = {"$__rate_interval": "10s", "$__range": "10m", "$run": ".+"}
# Panels of what a run on CPUs has not.
OF_GPUS = {
    f"Training run: {title}"
    for title in ("Memory of GPUs", "Peak memory of GPUs", "Utilisation of GPUs")
}
_VALUES = re.compile(r"label_values\((.+), (\w+)\)")


@dataclass
class Told:
    """Names of the alerts that a webhook was told of, in their order."""

    url: str
    names: list[str] = field(default_factory=list)

    def firing(self) -> set[str]:
        """Those that have ever fired."""
        return set(self.names)


@contextmanager
def webhook() -> Iterator[Told]:
    """Listens while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.names += [
                alert["labels"]["alertname"]
                for alert in content["alerts"] if alert["status"] == "firing"
            ]  # fmt: skip
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told = Told(f"http://127.0.0.1:{server.server_address[1]}/")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@contextmanager
def monitoring(
    folder: Path, ports: list[int], changes: dict[str, Any], exporters: Sequence[int] = ()
) -> Iterator[tuple[Stack, Told]]:
    """Scrapes these ports every second, by rules with these changes of the chart's values.

    exporters: ports of pages that tell of other pods.
    """
    with webhook() as told:
        settings = Settings(
            [f"127.0.0.1:{port}" for port in ports], interval="1s", changes=changes,
            webhook=told.url, prometheus_port=free_port(), alertmanager_port=free_port(),
            exporters=[f"127.0.0.1:{port}" for port in exporters],
        )  # fmt: skip
        with stack(folder, settings) as running:
            yield running, told


def ask(running: Stack, path: str, **words: str | float) -> Any:
    """The data of an answer of Prometheus' API; HTTPError for what it refuses."""
    url = f"{running.prometheus}/api/v1/{path}?{urllib.parse.urlencode(words)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)["data"]


def rules(running: Stack) -> list[dict[str, Any]]:
    """The rules that it has loaded, each with its health."""
    return [rule for group in ask(running, "rules")["groups"] for rule in group["rules"]]


def panels(
    texts: Iterable[str] | None = None, *, namespace: str = "local", worker: str = "port-.+"
) -> Iterator[tuple[str, str]]:
    """Where each query of the dashboards stands, and the query as Grafana sends it.

    texts: their JSON; by default that of the chart. namespace, worker: what is chosen in them.
    """
    chosen = {"$namespace": namespace, "$worker": worker}
    for text in (path.read_text() for path in DASHBOARDS) if texts is None else texts:
        dashboard = json.loads(text)
        name = dashboard["title"]
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                yield f"{name}: {panel['title']}", filled(target["expr"], chosen)
        for mark in dashboard["annotations"]["list"]:
            yield f"{name}: mark {mark['name']}", filled(mark["expr"], chosen)
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                what, label = _VALUES.fullmatch(variable["query"]).groups()
                count = f"count by ({label}) ({what})"
                yield f"{name}: choice of {label}", filled(count, chosen)


def filled(expr: str, chosen: Mapping[str, str]) -> str:
    """With values in place of variables."""
    for name, value in (_VARIABLES | chosen).items():
        expr = expr.replace(name, value)
    return expr
