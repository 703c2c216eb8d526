"""What runs in pods: the JobSet and Kueue controllers, by their own charts, and Prometheus."""

import shutil
import subprocess
from pathlib import Path

import yaml

from k8s.cluster.images import Image, write_archive
from k8s.cluster.places import ETC, HERE, ClusterError

ADDONS = HERE / "addons"
# A chart, and the namespace where it is installed.
CHARTS = {"jobset": "jobset-system", "kueue": "kueue-system"}
# An APIService is reached through the network of services, by an API server that may start first.
_LEFT_OUT = {"APIService"}
IMAGES = {
    "localhost/pause:1": ("pause", "/pause"),
    "localhost/jobset:1": ("jobset", "/manager"),
    "localhost/kueue:1": ("kueue", "/manager"),
    "localhost/prometheus:1": ("prometheus", "/prometheus"),
}


def write_images(folder: Path, names: list[str]) -> list[Path]:
    """Archives of the images of those names; their programs are on the PATH."""
    archives = []
    for name in names:
        program, path = IMAGES[name]
        archive = folder / f"{program}.tar"
        write_archive(Image(name, Path(shutil.which(program) or program), path), archive)
        archives.append(archive)
    return archives


def render(name: str, chart: Path) -> str:
    """The objects of a controller's chart, as a list that kubectl takes."""
    command = ["helm", "template", name, str(chart), "--namespace", CHARTS[name], "--include-crds",
               "--values", str(ADDONS / f"{name}.yaml")]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if result.returncode:
        raise ClusterError(f"the chart of {name} was not rendered:\n{result.stderr}")
    return as_list(result.stdout)


def as_list(manifests: str) -> str:
    """One List of all objects that are wanted."""
    objects = [one for one in yaml.safe_load_all(manifests) if one and one["kind"] not in _LEFT_OUT]
    return yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": objects})


def install(name: str, chart: Path) -> None:
    """Apply a controller's objects to a namespace of its own."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CHARTS[name]}}
    apply(yaml.safe_dump(namespace))
    apply(render(name, chart))


def apply(manifests: str) -> None:
    """Apply objects; by the server, because some are too large for the client's way."""
    kubectl("apply", "--server-side", "--filename", "-", stdin=manifests)


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """What kubectl says, as the cluster's administrator."""
    command = ["kubectl", f"--kubeconfig={ETC}/admin.conf", "--request-timeout=60s", *arguments]
    result = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=180, check=False
    )
    if result.returncode:
        raise ClusterError(f"kubectl {' '.join(arguments)}: {result.stderr.strip()}")
    return result.stdout
