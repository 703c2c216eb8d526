"""A GCS emulator in the cluster, with the packaged data in a bucket."""

import json
from dataclasses import dataclass
from typing import Any

from tests.e2e.kube import CommandError, Kube, escape, wait_until

BUCKET = "demo"
DATA = f"gs://{BUCKET}/data/fashion_mnist"
PORT = 4443
_LABELS = {"app.kubernetes.io/name": "gcs"}
# The trainer's own interface copies what comes with it.
_SEED = f"""
from trainer.data.builtin import resolve_data_url
from trainer.storage import open_storage
here, there = open_storage(resolve_data_url("builtin:fashion_mnist")), open_storage("{DATA}")
for entry in here.list():
    there.write(entry.path, here.read(entry.path))
"""


@dataclass(frozen=True)
class Store:
    """What the emulator holds."""

    kube: Kube

    @property
    def environment(self) -> dict[str, str]:
        """What a pod needs in order to use it, and never a cloud."""
        return {
            "STORAGE_EMULATOR_HOST": f"http://gcs.{self.kube.namespace}:{PORT}",
            "GCE_METADATA_HOST": "127.0.0.1:9",
        }

    def start(self, *, emulator: str, trainer: str) -> None:
        """Start it from its image, and fill it by the trainer's."""
        self.kube.make_namespace()
        self.kube.apply(_pod("gcs", emulator, _LABELS, command=_serve()), _service())
        self.kube("wait", "pod/gcs", "--for=condition=Ready", "--timeout=120s")
        self._make_bucket()
        seed = ["python", "-c", _SEED]
        self.kube.apply(_pod("seed", trainer, {}, command=seed, environment=self.environment))
        wait_until("data in the bucket", self._is_seeded, seconds=180)

    def names(self, prefix: str) -> list[str]:
        """Objects whose names begin so."""
        path = f"storage/v1/b/{BUCKET}/o?prefix={escape(prefix)}"
        return [item["name"] for item in json.loads(self._http(path)).get("items", [])]

    def read(self, name: str) -> dict[str, Any] | None:
        """An object of JSON, or None if there is none."""
        if name not in self.names(name):
            return None
        return json.loads(self._http(f"storage/v1/b/{BUCKET}/o/{escape(name)}?alt=media"))

    def _make_bucket(self) -> None:
        path = f"/api/v1/namespaces/{self.kube.namespace}/services/gcs:{PORT}/proxy/storage/v1/b"
        self.kube("create", f"--raw={path}", "--filename=-", stdin=json.dumps({"name": BUCKET}))

    def _http(self, path: str) -> str:
        return self.kube.http(f"gcs:{PORT}", path)

    def _is_seeded(self) -> bool:
        phase = self.kube.get("pod", "seed")["status"]["phase"]
        if phase == "Failed":
            raise CommandError(self.kube("logs", "seed"))
        return phase == "Succeeded"


def _serve() -> list[str]:
    return [
        "/fake-gcs-server", "-host=0.0.0.0", f"-port={PORT}", "-scheme=http",
        f"-public-host=gcs.e2e-store:{PORT}", "-backend=memory", "-log-level=error",
    ]  # fmt: skip


def _service() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "gcs"},
        "spec": {"selector": _LABELS, "ports": [{"port": PORT}]},
    }


def _pod(
    name: str, image: str, labels: dict[str, str], *, command: list[str],
    environment: dict[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": [{"name": key, "value": value} for key, value in (environment or {}).items()],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"restartPolicy": "Never", "enableServiceLinks": False, "containers": [container]},
    }
