"""A run in W&B (Weights & Biases), on its server or, without a network, in a folder."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.callbacks.reporter import Row, Service, describe
from trainer.callbacks.run_info import RunInfo
from trainer.callbacks.tracker import Tracker
from trainer.callbacks.wandb_file import WandbFile
from trainer.errors import ConfigError

# Its program sends what it has every few seconds.
_SENT_AFTER_SECONDS = 120.0


class WandbLogger(Tracker):
    """Reports to W&B; our own, since W&B's for Keras know no step that was done before a restart.

    Who we are there, and whether there is a network, are W&B's variables: WANDB_API_KEY,
    WANDB_BASE_URL, WANDB_MODE, WANDB_DIR …

    Args:
        project, entity: where the run is listed; by default those of W&B's variables.
        every_steps: also the logs of every so many steps, as `batch/…`.
    """

    package = "wandb"
    extra = "wandb"

    def __init__(
        self, project: str | None = None, entity: str | None = None,
        every_steps: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(every_steps)
        self._project, self._entity = project, entity

    def service(self, run: RunInfo) -> Service:
        """W&B."""
        return _Wandb(run, project=self._project, entity=self._entity)


class _Wandb:
    """The one run there that has our run's id."""

    name = "W&B"

    def __init__(self, ours: RunInfo, **where: Any) -> None:
        self._ours, self._where = ours, where
        self._run: Any = None
        self._file: WandbFile | None = None  # where there is no network
        self._last_step = -1

    def connect(self) -> None:
        """Begin the run, or go on with it: offline in another folder, of the same id."""
        import wandb

        is_offline = wandb.setup().settings.mode in ("offline", "dryrun")
        if self._run is None:
            self._run = self._init(wandb, resume=None if is_offline else "allow")
        self._last_step = self._run.step - 1
        if is_offline:
            own = Path(self._run.settings.sync_file)
            self._file = WandbFile(own)
            others = own.parent.parent.glob(f"*-{self._ours.id}/{own.name}")
            steps = (WandbFile(path).last_step() for path in others if path != own)
            self._last_step = max(steps, default=-1)

    def _init(self, wandb: Any, resume: str | None) -> Any:
        settings = wandb.Settings(
            # Its output is no event of ours; and a script may have a run of its own.
            silent=True, console="off", reinit="create_new",
            init_timeout=25, finish_timeout=20,
        )  # fmt: skip
        try:
            return wandb.init(
                id=self._ours.id, resume=resume, name=self._ours.name,
                config={**self._ours.config, "run_url": self._ours.url}, settings=settings,
                **self._where,
            )  # fmt: skip
        except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
            raise ConfigError(f"W&B refuses: {describe(error)}") from error

    def send(self, rows: Sequence[Row]) -> None:
        """Those of steps that it does not have."""
        for row in rows:
            if row.step > self._last_step:
                self._run.log(dict(row.values), step=row.step, commit=True)
                self._last_step = row.step

    def has_kept(self, row: Row) -> bool:
        """Whether a kill would not lose it: W&B hands it to a program, and says no more of it."""
        if self._file is not None:
            return row.step <= self._file.last_step()
        return self._run.disabled or row.at < time.time() - _SENT_AFTER_SECONDS

    def finish(self) -> None:
        """Marked as finished."""
        self._run.finish()
