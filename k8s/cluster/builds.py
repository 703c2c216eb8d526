"""Programs that are built from locked Go modules, once.

A folder of k8s/cluster/go is a module whose go.mod names the programs (`tool`) and whose go.sum
holds the hashes of all that they are made of.
"""

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from k8s.cluster.places import MODULES, ClusterError, Place

# In the order in which they are built, with minutes on two cores.
MINUTES = {
    "pause": 0, "kubernetes": 5, "kube-router": 2, "coredns": 2, "helm": 2, "jobset": 2, "kueue": 2,
    "prometheus": 2,
}  # fmt: skip
# Prometheus knows two dozen clouds, each with libraries of its own.
TAGS = {"prometheus": "remove_all_sd,enable_kubernetes_sd"}
# Kept beside the program: the chart that installs it, in its module's own source.
CHARTS = {
    "jobset": ("sigs.k8s.io/jobset", "charts/jobset"),
    "kueue": ("sigs.k8s.io/kueue", "charts/kueue"),
}
# A program that others ask for its version has to know it.
_VERSIONED = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


def build_programs(place: Place, say: Callable[[str], None]) -> list[Path]:
    """Build what is missing; returns the folders that hold the programs."""
    folders = program_folders(place)
    for folder, (module, minutes) in zip(folders, MINUTES.items(), strict=True):
        if not folder.is_dir():
            about = f" (once, about {minutes} min)" if minutes else ""
            say(f"build {module}{about}")
            start = time.monotonic()
            _build(MODULES / module, folder)
            say(f"built {module} in {time.monotonic() - start:.0f} s")
    return folders


def program_folders(place: Place) -> list[Path]:
    """The folders of the programs, built or not, in the order of MINUTES."""
    return [place.programs / f"{name}-{fingerprint(MODULES / name)}" for name in MINUTES]


def fingerprint(module: Path) -> str:
    """What a built folder is named by: another one when anything of the module changes."""
    sources = sorted(file for file in module.iterdir() if file.is_file())
    text = b"".join(file.name.encode() + b"\0" + file.read_bytes() + b"\0" for file in sources)
    return hashlib.sha256(text).hexdigest()[:12]


def versions(module: Path) -> dict[str, str]:
    """The version of each module that a module is made of."""
    text = (module / "go.mod").read_text()
    return dict(re.findall(r"^(?:require )?\s*([\w./-]+) (v\S+)(?: // indirect)?$", text, re.M))


def link_flags(module: Path) -> str:
    """What the linker writes into the programs: no symbols, and Kubernetes' version."""
    flags = ["-s", "-w"]
    version = versions(module).get("k8s.io/kubernetes")
    if version:
        major, minor = version.lstrip("v").split(".")[:2]
        for package in _VERSIONED:
            values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
            flags += [f"-X {package}.{name}={value}" for name, value in values.items()]
    return " ".join(flags)


def _build(module: Path, folder: Path) -> None:
    partial = folder.with_name(f"partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    options = ["-trimpath", "-mod=readonly", "-tags", TAGS.get(module.name, "")]
    _go(module, "build", *options, "-ldflags", link_flags(module), "-o", f"{partial}/", "tool")
    if module.name in CHARTS:
        required, chart = CHARTS[module.name]
        source = _go(module, "list", "-m", "-f", "{{.Dir}}", required).strip()
        shutil.copytree(Path(source, chart), partial / "chart", copy_function=shutil.copyfile)
    for older in folder.parent.glob(f"{module.name}-{'[0-9a-f]' * 12}"):
        shutil.rmtree(older)
    partial.rename(folder)


def _go(module: Path, *arguments: str) -> str:
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if not go:
        raise ClusterError("go is missing: install Go 1.26 or later, or set KUBECONFIG")
    result = subprocess.run(
        [go, *arguments], cwd=module, env=os.environ | {"CGO_ENABLED": "0"},
        capture_output=True, text=True, timeout=3600, check=False,
    )  # fmt: skip
    if result.returncode:
        raise ClusterError(f"{module.name}: go {arguments[0]} failed:\n{result.stderr[-3000:]}")
    return result.stdout
