"""JSON schemas of Kubernetes objects, closed, as kubeconform reads them: GROUP/KIND_VERSION.json.

    kubernetes_schemas.py api TARGET MODULE          of Kubernetes' own objects
    kubernetes_schemas.py resources TARGET FOLDER    of custom resources

MODULE is the folder of Kubernetes' Go module, FOLDER one of CustomResourceDefinitions.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.config.yaml_text import parse_yaml

# What the charts and their samples hold.
KINDS = {
    "ConfigMap", "Deployment", "Job", "NetworkPolicy", "PersistentVolumeClaim", "Pod", "Secret",
    "Service", "ServiceAccount",
}  # fmt: skip
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_GVK = "x-kubernetes-group-version-kind"

Schema = dict[str, Any]


def of_api(module: Path) -> Iterator[tuple[str, Schema]]:
    """(path, schema) of Kubernetes' own kinds."""
    definitions = json.loads((module / "api" / "openapi-spec" / "swagger.json").read_text())[
        "definitions"
    ]
    definitions[_QUANTITY] = {"type": ["string", "number"]}
    closed = {name: close(schema) for name, schema in definitions.items()}
    for name, schema in definitions.items():
        for gvk in schema.get(_GVK, []):
            if gvk["kind"] in KINDS and len(schema[_GVK]) == 1:
                needed = {found: closed[found] for found in _reached(name, closed)}
                yield _path(**gvk), {"$ref": f"#/definitions/{name}", "definitions": needed}


def of_resources(folder: Path) -> Iterator[tuple[str, Schema]]:
    """(path, schema) of all versions of the custom resources that a folder's files define."""
    for file in sorted(folder.glob("*.yaml")):
        # They hold a `=`, which PyYAML by itself does not read.
        spec = parse_yaml(file.read_text(), file.name)["spec"]
        for version in spec["versions"]:
            path = _path(spec["group"], version["name"], spec["names"]["kind"])
            yield path, close(version["schema"]["openAPIV3Schema"])


def close(schema: Any) -> Any:
    """The schema without room for unknown fields, which an API server would drop or refuse."""
    if isinstance(schema, list):
        return [close(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        return {"type": ["string", "integer"]}
    closed = {key: close(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type", "object") == "object":
        is_open = schema.get("x-kubernetes-preserve-unknown-fields")
        if "additionalProperties" not in schema and not is_open:
            closed["additionalProperties"] = False
    return closed


def _reached(name: str, definitions: dict[str, Schema]) -> set[str]:
    found, open_names = set(), [name]
    while open_names:
        one = open_names.pop()
        if one not in found:
            found.add(one)
            open_names += _references(definitions[one])
    return found


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for one in schema:
            yield from _references(one)
    elif isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield value.removeprefix("#/definitions/")
            else:
                yield from _references(value)


def _path(group: str, version: str, kind: str) -> str:
    # Of the core group, kubeconform takes the version for the group.
    return f"{group or version}/{kind.lower()}_{version}.json"


def main() -> None:
    """Write them."""
    what, target, source = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    for path, schema in {"api": of_api, "resources": of_resources}[what](source):
        file = target / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(schema))


if __name__ == "__main__":
    main()
