"""Pod Security "restricted", and what this project asks for beside it.

https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
"""

from collections.abc import Iterator
from typing import Any

import yaml

_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip


def problems(text: str) -> list[str]:
    """What is wrong with the pods of these objects, each in a line."""
    pods = [pod for one in yaml.safe_load_all(text) if one for pod in _pods(one)]
    return [problem for pod in pods for problem in _of_pod(pod)]


def _pods(node: Any) -> Iterator[dict[str, Any]]:
    """Every pod's spec, however deep it lies."""
    if isinstance(node, dict):
        if "containers" in node:
            yield node
        for below in node.values():
            yield from _pods(below)
    elif isinstance(node, list):
        for below in node:
            yield from _pods(below)


def _of_pod(pod: dict[str, Any]) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield f"{name} is set"
    for name in ("automountServiceAccountToken", "enableServiceLinks"):
        if pod.get(name) is not False:
            yield f"{name} is not false"
    for volume in pod.get("volumes", []):
        if not set(volume) - {"name"} <= _VOLUMES:
            yield f"volume {volume['name']} is of a forbidden kind"
    yield from _of_user(pod.get("securityContext") or {})
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        yield from _of_container(container)


def _of_user(context: dict[str, Any]) -> Iterator[str]:
    if context.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not set"
    if not context.get("runAsUser"):
        yield "runAsUser is not a number other than 0"
    if (context.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile is not RuntimeDefault"


def _of_container(container: dict[str, Any]) -> Iterator[str]:
    context = container.get("securityContext") or {}
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if context.get("privileged"):
        yield "privileged is set"
    capabilities = context.get("capabilities") or {}
    if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
        yield "capabilities are not dropped"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "readOnlyRootFilesystem is not set"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "a port of the host is taken"
    if "limits" not in container.get("resources", {}):
        yield "there is no limit"
