"""Plain pods that the tests start beside runs."""

from typing import Any

from tests.e2e.kube import CommandError, Kube, wait_until


def pod(
    name: str, image: str, *, command: list[str], labels: dict[str, str] | None = None,
    environment: dict[str, str] | None = None, cpu: str | None = None, priority: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A pod of one container, which is not started again."""
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": [{"name": key, "value": value} for key, value in (environment or {}).items()],
        "resources": {"requests": {"cpu": cpu} if cpu else {}},
    }
    spec = {"restartPolicy": "Never", "enableServiceLinks": False, "containers": [container]}
    if priority:
        spec["priorityClassName"] = priority
    metadata = {"name": name, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def run_to_its_end(kube: Kube, wanted: dict[str, Any], *, seconds: float = 180) -> str:
    """What a pod says until it ends with 0; CommandError if it ends otherwise."""
    name = wanted["metadata"]["name"]
    kube.apply(wanted)

    def has_ended() -> bool:
        return kube.get("pod", name)["status"]["phase"] in ("Succeeded", "Failed")

    wait_until(f"pod {name} ended", has_ended, seconds=seconds)
    said = kube("logs", name)
    failed = kube.get("pod", name)["status"]["phase"] == "Failed"
    kube("delete", "pod", name, "--wait=false")
    if failed:
        raise CommandError(f"pod {name} failed:\n{said}")
    return said
