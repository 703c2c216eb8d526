"""One release of the chart: a run of several pods, as a user installs and disturbs it."""

import json
import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import yaml

from tests.e2e.kube import COMMAND_SECONDS, CommandError, Kube, command, unix_time, wait_until
from tests.e2e.pods import pod, run_to_its_end
from tests.e2e.store import BUCKET, Store
from trainer.checkpoint.names import CHECKPOINTS, COMMIT_FILE, folder_name, parse_folder

CHART = Path(os.environ.get("E2E_CHART") or Path(__file__).parents[2] / "helm" / "trainer")
IMAGE = os.environ.get("IMAGE", "docker.io/library/trainer:e2e")
COMPLETE_SECONDS = 300


@dataclass(frozen=True)
class Result:
    """What has to be the same, whatever was done to a run."""

    steps: int
    sha256: str  # of all weights and the optimizer's variables
    history: str  # of losses and metrics by epoch


@dataclass(frozen=True)
class Moment:
    """What is to be seen of a run before something is done to it."""

    time: float  # Unix time
    step: int  # of the newest committed checkpoint
    lives: dict[int, tuple[str, int]]


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
        # helm leaves the pod of `helm test`, so that its log can be read.
        self.kube("delete", "pods", f"--selector={self.selector},{_TEST}", "--wait=false")
        self.wait_until_gone()

    def suspend(self, is_suspended: bool) -> None:
        """Suspend or resume it, as the documents say."""
        suspend = f"--set=suspend={json.dumps(is_suspended)}"
        self.helm("upgrade", self.name, str(CHART), "--reuse-values", suspend)

    def suspend_job(self, is_suspended: bool) -> None:
        """Suspend or resume its Job and not the release, as controllers of queues do."""
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
            self.kube.list("pods", f"{self.selector},{_WORKER}"),
            key=lambda pod: pod["metadata"]["creationTimestamp"],
        )
        return {int(pod["metadata"]["labels"][_INDEX]): pod for pod in pods}

    def pod_name(self, index: int) -> str:
        """The name of the newest pod of an index."""
        return self.pods()[index]["metadata"]["name"]

    def lives(self, *indices: int) -> dict[int, tuple[str, int]]:
        """UID and number of restarts of these pods: the same as long as nothing happens to them."""
        pods = self.pods()
        return {index: life(pods[index]) for index in indices}

    def moment(self) -> Moment:
        """How it is now."""
        lives = {index: life(pod) for index, pod in self.pods().items()}
        return Moment(now(), self.step(), lives)

    def logs(self, index: int) -> list[dict[str, Any]]:
        """What the newest pod of an index said, as far as it is events."""
        return _events(self.kube("logs", self.pod_name(index)))

    def kept_log(self, index: int) -> list[dict[str, Any]]:
        """Events of a worker's last output that lies in the run's folder, as the trainer shows it.

        Its pod need not be there any more.
        """
        name = f"gs://{BUCKET}/{self.folder}"
        show = ["trainer", "runs", "logs", name, f"--worker={index}"]
        reader = pod(f"log-{index}", IMAGE, command=show, environment=self.store.environment)
        return _events(run_to_its_end(self.kube, reader))

    @contextmanager
    def following(self, index: int) -> Iterator[Callable[[], list[dict[str, Any]]]]:
        """Hear what a pod says: the function returns all of it, once the pod has ended."""
        name = f"--namespace={self.kube.namespace}"
        command = ["kubectl", name, "logs", "--follow", self.pod_name(index)]
        with TemporaryFile("w+") as said, subprocess.Popen(command, stdout=said) as process:

            def heard() -> list[dict[str, Any]]:
                process.wait(timeout=COMMAND_SECONDS)
                said.seek(0)
                return _events(said.read())

            try:
                yield heard
            finally:
                process.terminate()

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

    def step_being_saved(self, moment: float) -> int | None:
        """The step whose save had begun at a moment and was committed later."""
        for folder, files in self._checkpoints().items():
            if COMMIT_FILE in files and min(files.values()) < moment < files[COMMIT_FILE]:
                position = parse_folder(folder)
                return position and position[0]
        return None

    def _checkpoints(self) -> dict[str, dict[str, float]]:
        """The names in each checkpoint's folder, and when each was made."""
        prefix = f"{self.folder}/{CHECKPOINTS}/"
        found: dict[str, dict[str, float]] = defaultdict(dict)
        for name, made in self.store.made(prefix).items():
            folder, _, file = name.removeprefix(prefix).partition("/")
            found[folder][file] = made
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

    def wait_for_save(self) -> None:
        """Until one is on its way: parts of a checkpoint are there, and its marker is not."""

        def is_saving() -> bool:
            return any(COMMIT_FILE not in files for files in self._checkpoints().values())

        wait_until(f"a save of {self.name}", is_saving, seconds=60)

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

    def first_restored(self, since: float) -> int:
        """The step that worker 0 went on from, when it first did so after a moment; 0: anew."""
        restores = [event for event in self.logs(0) if event["event"] == "restore"]
        later = [event["step"] for event in restores if at(event) > since]
        assert later, f"nothing restored after {since}: {restores}"
        return later[0]

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


_WORKER = "app.kubernetes.io/component=worker"
_TEST = "app.kubernetes.io/component=test"
_INDEX = "batch.kubernetes.io/job-completion-index"


def _events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def life(pod: dict[str, Any]) -> tuple[str, int]:
    """Which pod it is, and how often its container was started again."""
    return pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]


def at(event: dict[str, Any]) -> float:
    """When an event was said, as Unix time."""
    return unix_time(event["timestamp"])


def now() -> float:
    """Unix time; pods' clocks are taken to be the same."""
    return time.time()
