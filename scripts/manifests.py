"""Renders k8s/*.yaml from the chart, for who uses kubectl or kustomize; `--check` compares."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "k8s"
HELM = ROOT / ".tools" / "helm"
# Release by file. Each has a name of its own, so that all of them may be applied to a namespace.
RELEASES = {"job": "demo", "kueue": "queued", "jobset": "joined"}
# What is helm's own, or would keep kubectl from putting it into another namespace, or people from
# editing the configuration.
_HELMS = re.compile(
    r"^(?:# Source: .*|immutable: true|\s+(?:namespace: .default.|helm\.sh/chart: .*"
    r"|app\.kubernetes\.io/managed-by: .*))\n",
    re.MULTILINE,
)
_HEAD = """\
# Written by `make k8s` from helm/trainer and k8s/values: docs/kubernetes.md says how to use it.
# Before kubectl apply:
# 1. Name your image, here or in kustomization.yaml.
# 2. Name your bucket in run.dir; the account `{name}` has to have rights there. Another run of the
#    namespace has another run.name: alerts know it by that.
# 3. Make the secret by which the pods know each other, and which is not in here:
#    kubectl create secret generic {name}-gathering --from-literal=secret="$(openssl rand -hex 32)"
# A Job cannot be changed: kubectl delete {kind} {workload} before another version is applied; the
# new one goes on where the old one was.
"""


def render(file: str) -> str:
    """One file's text."""
    name = RELEASES[file]
    values = [f"--values={FOLDER / 'values' / one}.yaml" for one in dict.fromkeys(("job", file))]
    command = [HELM, "template", name, ROOT / "helm" / "trainer", "--no-hooks", *values]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"scripts/manifests.py: {result.stderr.strip()}")
    text = re.sub(r"\n+---", "\n---", _HELMS.sub("", result.stdout)).removeprefix("---\n")
    kind, workload = re.findall(rf"kind: (Job|JobSet)\nmetadata:\n  name: ({name}-\w+)", text)[0]
    head = _HEAD.format(name=name, kind=kind.lower(), workload=workload)
    return f"{head}{text.rstrip()}\n"


def documents() -> dict[Path, str]:
    """Every rendered file and what it should hold."""
    return {FOLDER / f"{file}.yaml": render(file) for file in RELEASES}


def main() -> int:
    """Write, or with --check name what is out of date and return 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only name files out of date")
    is_check = parser.parse_args().check
    stale = {
        path: text
        for path, text in documents().items()
        if not path.is_file() or path.read_text() != text
    }
    for path, text in stale.items():
        if is_check:
            print(f"{path.relative_to(ROOT)} is out of date: make k8s", file=sys.stderr)
        else:
            path.write_text(text)
    return int(is_check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
