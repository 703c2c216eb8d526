"""The Prometheus of the namespace that scrapers are allowed in."""

import json
from typing import Any

from tests.e2e.kube import Kube, escape

_SERVICE = "prometheus:9090"


class Prometheus:
    """What it says, through the API server; CommandError for what it refuses."""

    def __init__(self) -> None:
        self.kube = Kube("monitoring")

    def query(self, expression: str, *, time: float | None = None) -> list[dict[str, Any]]:
        """The series that an expression gives, now or at a Unix time."""
        at = "" if time is None else f"&time={time}"
        answer = self._get(f"query?query={escape(expression)}{at}")
        assert not answer.get("warnings"), f"{expression}: {answer['warnings']}"
        return answer["data"]["result"]

    def over(self, expression: str, *, start: float, end: float) -> list[dict[str, Any]]:
        """The series that an expression gives between two Unix times, every other second."""
        answer = self._get(f"query_range?query={escape(expression)}&start={start}&end={end}&step=2")
        assert not answer.get("warnings"), f"{expression}: {answer['warnings']}"
        return answer["data"]["result"]

    def rules(self) -> list[dict[str, Any]]:
        """The rules that it has loaded, each with its expression and health."""
        groups = self._get("rules")["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def load_rules(self) -> None:
        """Read the files of rules again."""
        # The kubelet looks at a pod's volumes when the pod changes, or else after a minute or two.
        chosen = ("pods", "--selector=app.kubernetes.io/name=prometheus")
        self.kube("label", *chosen, "--overwrite", "e2e=rules")
        path = f"/api/v1/namespaces/{self.kube.namespace}/services/{_SERVICE}/proxy/-/reload"
        self.kube("create", f"--raw={path}", "--filename=-", stdin="")

    def _get(self, path: str) -> dict[str, Any]:
        return json.loads(self.kube.http(_SERVICE, f"api/v1/{path}"))
