"""A GCS emulator in the cluster, with the packaged data in a bucket."""

import json
from dataclasses import dataclass
from typing import Any

from tests.e2e.kube import Kube, escape
from tests.e2e.pods import pod, run_to_its_end

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
        self.kube.apply(pod("gcs", emulator, labels=_LABELS, command=self._serve()), _service())
        self.kube("wait", "pod/gcs", "--for=condition=Ready", "--timeout=120s")
        bucket = json.dumps({"name": BUCKET})
        self.kube("create", f"--raw={self._base}/storage/v1/b", "--filename=-", stdin=bucket)
        seed = ["python", "-c", _SEED]
        run_to_its_end(self.kube, pod("seed", trainer, command=seed, environment=self.environment))

    def names(self, prefix: str) -> list[str]:
        """Objects whose names begin so."""
        shown = self._get(f"storage/v1/b/{BUCKET}/o?prefix={escape(prefix)}")
        return [item["name"] for item in json.loads(shown).get("items", [])]

    def read(self, name: str) -> dict[str, Any] | None:
        """An object of JSON, or None if there is none."""
        if name not in self.names(name):
            return None
        return json.loads(self._get(f"storage/v1/b/{BUCKET}/o/{escape(name)}?alt=media"))

    @property
    def _base(self) -> str:
        """The emulator as the API server reaches it."""
        return f"/api/v1/namespaces/{self.kube.namespace}/services/gcs:{PORT}/proxy"

    def _get(self, path: str) -> str:
        return self.kube("get", f"--raw={self._base}/{path}")

    def _serve(self) -> list[str]:
        address = f"gcs.{self.kube.namespace}:{PORT}"
        return [
            "/fake-gcs-server", "-scheme=http", "-host=0.0.0.0", f"-port={PORT}",
            f"-public-host={address}", "-backend=memory", "-log-level=error",
        ]  # fmt: skip


def _service() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "gcs"},
        "spec": {"selector": _LABELS, "ports": [{"port": PORT}]},
    }
