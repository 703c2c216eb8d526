"""Images of one program, made without an engine: an archive that `ctr images import` reads."""

import hashlib
import io
import json
import platform
import re
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

# Nobody's number, so that a pod may insist on a user who is not root.
USER = "65532:65532"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Image:
    """One program and what it is linked with, under the name that pods ask for."""

    name: str
    program: Path
    path: str  # where a pod's command expects it

    def files(self) -> dict[str, Path]:
        """Where each file of this machine lies in the image."""
        return {self.path: self.program} | {str(file): file for file in linked_files(self.program)}


def linked_files(program: Path) -> list[Path]:
    """The libraries that a program is linked with; none for most that are built by Go."""
    shown = subprocess.run(
        ["ldd", program], capture_output=True, text=True, timeout=60, check=False
    )
    return [Path(path) for path in re.findall(r"(/\S+) \(0x", shown.stdout)]


def write_archive(image: Image, archive: Path) -> None:
    """Write the image as `docker save` would."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        layer = Path(folder, "layer.tar")
        _write_layer(image.files(), layer)
        with layer.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with tarfile.open(archive, "w") as tar:
            tar.add(layer, "layer.tar")
            _add(tar, "config.json", configuration(image, digest))
            manifest = {"Config": "config.json", "RepoTags": [image.name], "Layers": ["layer.tar"]}
            _add(tar, "manifest.json", [manifest])


def configuration(image: Image, layer_sha256: str) -> dict[str, object]:
    """What an image says of itself."""
    return {
        "architecture": _MACHINES[platform.machine()],
        "os": "linux",
        "config": {"Entrypoint": [image.path], "User": USER, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_sha256}"]},
    }


def _write_layer(files: dict[str, Path], layer: Path) -> None:
    with tarfile.open(layer, "w", dereference=True) as tar:
        for path, file in files.items():
            tar.add(file, path.lstrip("/"))


def _add(tar: tarfile.TarFile, name: str, content: object) -> None:
    data = json.dumps(content).encode()
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
