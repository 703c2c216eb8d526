"""A cluster through kubectl, as a user has it: KUBECONFIG says which."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

import yaml

COMMAND_SECONDS = 180
Result = TypeVar("Result")


class CommandError(AssertionError):
    """A command failed; the message is the command and what it said."""


def command(*words: str, stdin: str | None = None) -> str:
    """What a command prints; CommandError if it fails."""
    result = subprocess.run(
        words, input=stdin, capture_output=True, text=True, timeout=COMMAND_SECONDS
    )
    if result.returncode:
        raise CommandError(f"{' '.join(words)}\n{result.stdout}{result.stderr}")
    return result.stdout


def wait_until(what: str, check: Callable[[], Result], *, seconds: float = 120) -> Result:
    """What `check` returns as soon as it is true; AssertionError when the time is over."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)
    return found


@dataclass(frozen=True)
class Kube:
    """One namespace."""

    namespace: str

    def __call__(self, *words: str, stdin: str | None = None) -> str:
        """kubectl's answer."""
        return command("kubectl", f"--namespace={self.namespace}", *words, stdin=stdin)

    def make_namespace(self, **labels: str) -> None:
        """Make it, and wait for what every pod in it needs."""
        metadata = {"name": self.namespace, "labels": labels}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        wait_until("service account", lambda: self.find("serviceaccounts", "default"))

    def apply(self, *objects: dict[str, Any]) -> None:
        """Make objects as they are, or change them."""
        self("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump_all(objects))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object."""
        return json.loads(self("get", kind, name, "--output=json"))

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        """One object, or None."""
        shown = self("get", kind, name, "--ignore-not-found", "--output=json")
        return json.loads(shown) if shown else None

    def list(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """All objects of a kind that have these labels."""
        return json.loads(self("get", kind, f"--selector={selector}", "--output=json"))["items"]

    def evict(self, pod: str) -> None:
        """What `kubectl drain` and node upgrades do."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/eviction"
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        self("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))

    def http(self, service: str, path: str) -> str:
        """An answer of a Service, through the API server."""
        base = f"/api/v1/namespaces/{self.namespace}/services/{service}/proxy"
        return self("get", f"--raw={base}/{path}")


def unix_time(text: str) -> float:
    """Of a time as ISO 8601 writes it."""
    return datetime.fromisoformat(text).timestamp()


def escape(text: str) -> str:
    """A name as one part of a path or a query."""
    return quote(text, safe="")
