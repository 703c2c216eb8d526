"""One release of the chart: a run of several pods, as a user installs and disturbs it."""

import json
import os
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.kube import CommandError, Kube, command, wait_until
from tests.e2e.store import Store
from trainer.checkpoint.names import CHECKPOINTS, COMMIT_FILE, folder_name, parse_folder

CHART = Path(os.environ.get("E2E_CHART") or Path(__file__).parents[2] / "helm" / "trainer")
COMPLETE_SECONDS = 300


@dataclass(frozen=True)
class Result:
    """What has to be the same, whatever was done to a run."""

    steps: int
    sha256: str  # of all weights and the optimizer's variables
    history: str  # of losses and metrics by epoch


@dataclass(frozen=True)
class Run:
    """A release by name, in a namespace; its runs lie in the store."""

    kube: Kube
    store: Store
    name: str
    values: dict[str, Any] = field(repr=False)

    # What a user does

    def install(self, *options: str) -> None:
        """Install or upgrade it."""
        self.helm("upgrade", "--install", self.name, str(CHART), "--values=-", *options)

    def uninstall(self) -> None:
        """What is left is its data."""
        self.helm("uninstall", self.name)

    def remove(self) -> None:
        """Uninstall it if it is there, and wait until its pods are gone."""
        self.helm("uninstall", self.name, "--ignore-not-found")
        self.wait_until_gone()

    def suspend(self, is_suspended: bool) -> None:
        """Suspend or resume its Job."""
        patch = json.dumps({"spec": {"suspend": is_suspended}})
        self.kube("patch", "job", self.job()["metadata"]["name"], f"--patch={patch}")

    def helm(self, *words: str) -> str:
        """What helm says; it gets the values where `--values=-` asks for them."""
        values = yaml.safe_dump(self.values)
        return command("helm", f"--namespace={self.kube.namespace}", *words, stdin=values)

    # What is to be seen

    @property
    def selector(self) -> str:
        """The label of all that is its own."""
        return f"app.kubernetes.io/instance={self.name}"

    def job(self) -> dict[str, Any]:
        """Its newest Job."""
        jobs = self.kube.list("jobs", self.selector)
        return max(jobs, key=lambda job: job["metadata"]["creationTimestamp"])

    def pods(self) -> dict[int, dict[str, Any]]:
        """The newest pod of each index."""
        pods = sorted(
            self.kube.list("pods", f"{self.selector},app.kubernetes.io/component=worker"),
            key=lambda pod: pod["metadata"]["creationTimestamp"],
        )
        return {int(pod["metadata"]["labels"][_INDEX]): pod for pod in pods}

    def pod_name(self, index: int) -> str:
        """The name of the newest pod of an index."""
        return self.pods()[index]["metadata"]["name"]

    def lives(self, *indices: int) -> list[tuple[str, int]]:
        """UID and number of restarts of these pods: the same as long as nothing happens to them."""
        pods = self.pods()
        return [life(pods[index]) for index in indices]

    def logs(self, index: int) -> list[dict[str, Any]]:
        """What the newest pod of an index said, as far as it is events."""
        text = self.kube("logs", self.pod_name(index))
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    @property
    def folder(self) -> str:
        """Where the run lies in the bucket."""
        return f"runs/{self.kube.namespace}/{self.name}"

    def step(self) -> int:
        """The newest committed checkpoint's."""
        return max((step for step, _ in self.committed()), default=0)

    def committed(self) -> list[tuple[int, int]]:
        """(step, fence) of each committed checkpoint."""
        folders = [one for one, files in self._checkpoints().items() if COMMIT_FILE in files]
        return [position for folder in folders if (position := parse_folder(folder))]

    def uncommitted(self) -> list[str]:
        """The folders of checkpoints that are being written."""
        return [folder for folder, files in self._checkpoints().items() if COMMIT_FILE not in files]

    def _checkpoints(self) -> dict[str, set[str]]:
        """The names in each checkpoint's folder."""
        prefix = f"{self.folder}/{CHECKPOINTS}/"
        found = defaultdict(set)
        for name in self.store.names(prefix):
            folder, _, file = name.removeprefix(prefix).partition("/")
            found[folder].add(file)
        return found

    def result(self) -> Result:
        """What came of it, once it is complete."""
        summary = self.store.read(f"{self.folder}/summary.json")
        assert summary is not None, "the Job is complete, but there is no summary.json"
        step, fence = max(self.committed(), key=lambda position: position[::-1])
        folder = f"{self.folder}/{CHECKPOINTS}/{folder_name(step, fence)}"
        commit = self.store.read(f"{folder}/{COMMIT_FILE}")
        assert commit is not None
        manifest = self.store.read(f"{folder}/{commit['writer']}/manifest.json")
        assert manifest is not None
        return Result(step, manifest["sha256"], json.dumps(summary["history"]))

    # Waiting

    def wait_for_step(self, step: int) -> None:
        """Until a checkpoint of that step or a later one is committed."""
        wait_until(f"step {step} of {self.name}", lambda: self.step() >= step, seconds=180)

    def wait_until_complete(self) -> Result:
        """Until its Job is; returns what came of it."""
        wait_until(f"{self.name} complete", self._is_complete, seconds=COMPLETE_SECONDS)
        return self.result()

    def wait_until_gone(self) -> None:
        """Until none of its pods is left."""
        wait_until(f"{self.name} gone", lambda: not self.kube.list("pods", self.selector))

    def condition(self, name: str) -> dict[str, Any] | None:
        """A condition of its Job that holds."""
        conditions = self.job()["status"].get("conditions", [])
        held = (one for one in conditions if one["type"] == name and one["status"] == "True")
        return next(held, None)

    def charged_failures(self) -> int:
        """Failed pods that count towards its Job's back-off limit."""
        return int(self.job()["status"].get("failed", 0))

    def seconds_to_first_step(self, since: float) -> float:
        """From a moment until worker 0 made its first step of a later life."""
        steps = [at(event) for event in self.logs(0) if event["event"] == "first step"]
        later = [step for step in steps if step > since]
        assert later, f"no first step after {since}: {steps}"
        return later[0] - since

    def last_words(self) -> str:
        """The end of what each pod said."""
        names = (pod["metadata"]["name"] for pod in self.pods().values())
        return "\n".join(f"{name}: {self.kube('logs', name, '--tail=5')}" for name in names)

    def _is_complete(self) -> bool:
        failed = self.condition("Failed")
        if failed:
            raise CommandError(f"{self.name} failed: {failed['message']}\n{self.last_words()}")
        return self.condition("Complete") is not None


_INDEX = "batch.kubernetes.io/job-completion-index"


def life(pod: dict[str, Any]) -> tuple[str, int]:
    """Which pod it is, and how often its container was started again."""
    return pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]


def at(event: dict[str, Any]) -> float:
    """When an event was said, as Unix time."""
    return datetime.fromisoformat(event["timestamp"]).timestamp()


def now() -> float:
    """Unix time; pods' clocks are taken to be the same."""
    return time.time()
