"""A GCS emulator in the cluster, with the packaged data in a bucket."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import fault_proxy
from tests.e2e.kube import Kube, escape, unix_time
from tests.e2e.pods import pod, run_to_its_end

BUCKET = "demo"
DATA = f"gs://{BUCKET}/data/fashion_mnist"
PORT = 4443
_ADDRESS = "STORAGE_EMULATOR_HOST"
# The trainer's own interface copies what comes with it.
_SEED = f"""
from trainer.data.builtin import resolve_data_url
from trainer.storage import open_storage
here, there = open_storage(resolve_data_url("builtin:fashion_mnist")), open_storage("{DATA}")
for entry in here.list():
    there.write(entry.path, here.read(entry.path))
"""
# Stands behind the source of the tests' own proxy.
_SLOW = """
import sys
proxy = FaultProxy(sys.argv[1])
proxy.faults.append(Fault("slow", sys.argv[2], float(sys.argv[3]), times=sys.maxsize))
async def serve():
    server = web.ServerRunner(web.Server(proxy.handle))
    await server.setup()
    await web.TCPSite(server, port=int(sys.argv[4])).start()
    await asyncio.Event().wait()
asyncio.run(serve())
"""


@dataclass(frozen=True)
class Store:
    """What the emulator holds."""

    kube: Kube

    @property
    def environment(self) -> dict[str, str]:
        """What a pod needs in order to use it, and never a cloud."""
        return self._reached_by("gcs")

    def start(self, *, emulator: str, trainer: str) -> None:
        """Start it from its image, and fill it by the trainer's."""
        self.kube.make_namespace()
        self._start(pod("gcs", emulator, command=self._serve()))
        bucket = json.dumps({"name": BUCKET})
        self.kube("create", f"--raw={self._base}/storage/v1/b", "--filename=-", stdin=bucket)
        seed = ["python", "-c", _SEED]
        run_to_its_end(self.kube, pod("seed", trainer, command=seed, environment=self.environment))

    def start_slow(self, *, trainer: str, pattern: str, seconds: float) -> dict[str, str]:
        """What `environment` is, for a pod whose requests that match a pattern take so long."""
        source = Path(fault_proxy.__file__).read_text() + _SLOW
        told = [self.environment[_ADDRESS], pattern, str(seconds), str(PORT)]
        self._start(pod("slow", trainer, command=["python", "-c", source, *told]))
        return self._reached_by("slow")

    def made(self, prefix: str) -> dict[str, float]:
        """Objects whose names begin so, each with the Unix time at which it was made."""
        shown = self._get(f"storage/v1/b/{BUCKET}/o?prefix={escape(prefix)}")
        items = json.loads(shown).get("items", [])
        return {item["name"]: unix_time(item["timeCreated"]) for item in items}

    def read(self, name: str) -> dict[str, Any] | None:
        """An object of JSON, or None if there is none."""
        if name not in self.made(name):
            return None
        return json.loads(self._get(f"storage/v1/b/{BUCKET}/o/{escape(name)}?alt=media"))

    def _start(self, server: dict[str, Any]) -> None:
        """Start a pod that serves, and a Service of its name."""
        name = server["metadata"]["name"]
        labels = {"app.kubernetes.io/name": name}
        server["metadata"]["labels"] = labels
        spec = {"selector": labels, "ports": [{"port": PORT}]}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
        self.kube.apply(server, service)
        self.kube("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=120s")

    def _reached_by(self, service: str) -> dict[str, str]:
        address = f"http://{service}.{self.kube.namespace}:{PORT}"
        return {_ADDRESS: address, "GCE_METADATA_HOST": "127.0.0.1:9"}

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
