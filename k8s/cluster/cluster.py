"""The cluster, from the first process to the last, read top to bottom.

It runs as the first process inside its sandbox, and the cluster lasts as long as it does.
"""

import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from k8s.cluster import addons, parts, sandbox
from k8s.cluster.certificates import CLIENTS, kubeconfig, make_certificates
from k8s.cluster.places import CONFIG, ETC, NODE, PKI, ClusterError, Place
from k8s.cluster.processes import Processes

IMPORT = ("ctr", "--namespace=k8s.io", "images", "import")


def run(place: Place) -> None:
    """Start everything, say when it is ready, and go on until a part ends."""
    sandbox.furnish(place)
    _configure()
    processes = Processes(place.logs)
    say = _Story()

    say("etcd, API server")
    processes.start("etcd", parts.etcd())
    processes.wait_for("etcd", lambda: _answers("http://127.0.0.1:2379/health"), seconds=30)
    processes.start("kube-apiserver", parts.api_server())
    processes.start("containerd", parts.containerd())
    pause = addons.write_images(place.state, ["localhost/pause:1"])
    processes.wait_for("API server", _api_is_ready, seconds=60)

    say("controller-manager, scheduler")
    processes.start("kube-controller-manager", parts.controller_manager())
    processes.start("kube-scheduler", parts.scheduler())

    say("containerd, kubelet")
    processes.wait_for("containerd", Path("/run/containerd/containerd.sock").exists, seconds=30)
    import_images(pause)
    processes.start("kubelet", parts.kubelet())

    controllers = [name for name in addons.IMAGES if name != "localhost/pause:1"]
    import_images(addons.write_images(place.state, controllers))
    processes.wait_for("node", _node_is_ready, seconds=60)

    say("kube-proxy, kube-router, CoreDNS")
    processes.start("kube-proxy", parts.kube_proxy())
    processes.start("kube-router", parts.kube_router())
    processes.start("coredns", parts.coredns())

    say("JobSet, Kueue, Prometheus")
    for name in addons.CHARTS:
        addons.install(name, _chart(name))
    addons.apply((addons.ADDONS / "prometheus.yaml").read_text())
    processes.wait_for("CoreDNS", lambda: _answers("http://127.0.0.1:8181/ready"), seconds=60)
    processes.wait_for("controllers", _deployments_are_ready, seconds=120)

    place.kubeconfig.write_text(kubeconfig(PKI, "admin"))
    say("ready")
    processes.watch()


def import_images(archives: list[Path]) -> None:
    """Give archives of images to containerd, and remove them."""
    for archive in archives:
        command = [*IMPORT, str(archive)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if result.returncode:
            raise ClusterError(f"{archive.name} was not imported: {result.stderr.strip()}")
        archive.unlink()


class _Story:
    """Says what is started, and how long it took so far."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"{time.monotonic() - self._start:5.1f} s  {text}", flush=True)


def _configure() -> None:
    make_certificates(PKI)
    for client in CLIENTS:
        (ETC / f"{client}.conf").write_text(kubeconfig(PKI, client))
    for name in ("containerd.toml", "kubelet.yaml", "Corefile"):
        shutil.copy(CONFIG / name, ETC)
    (ETC / "cni").mkdir()
    shutil.copy(CONFIG / "cni.conflist", ETC / "cni")
    (ETC / "resolv.conf").touch()


def _chart(name: str) -> Path:
    program = shutil.which(name)
    assert program is not None
    return Path(program).with_name("chart")


def _answers(url: str, context: ssl.SSLContext | None = None) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5, context=context):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _api_is_ready() -> bool:
    context = ssl.create_default_context(cafile=PKI / "ca.crt")
    context.load_cert_chain(PKI / "admin.crt", PKI / "admin.key")
    return _answers("https://127.0.0.1:6443/readyz", context)


def _node_is_ready() -> bool:
    try:
        path = '{.status.conditions[?(@.type=="Ready")].status}'
        ready = addons.kubectl("get", "node", NODE, "--output", f"jsonpath={path}")
        addons.kubectl("get", "serviceaccount", "default")
    except ClusterError:  # not registered yet
        return False
    return ready == "True"


def _deployments_are_ready() -> bool:
    path = "{range .items[*]}{.status.availableReplicas}{'\\n'}{end}"
    shown = addons.kubectl("get", "deployments", "--all-namespaces", "--output", f"jsonpath={path}")
    return shown.split() == ["1", "1", "1"]
