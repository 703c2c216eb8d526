"""A run in MLflow, on a server or in a folder."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from trainer.callbacks.reporter import Row, Service, describe
from trainer.callbacks.run_info import RunInfo
from trainer.callbacks.tracker import Tracker, default_environment, flat
from trainer.errors import ConfigError

_RUN_ID = "trainer.run_id"
# What servers of all versions take: of a text, of a request.
_MOST_CHARACTERS = 500
_MOST_PARAMS = 100
_MOST_METRICS = 1000


class MlflowLogger(Tracker):
    """Reports to MLflow; our own, since `mlflow.autolog` sees `Model.fit` and no loop of ours.

    The server, and who we are there, are those of MLflow's variables: MLFLOW_TRACKING_URI,
    MLFLOW_TRACKING_TOKEN …

    Args:
        experiment: its name; by default that of MLFLOW_EXPERIMENT_NAME, or "Default".
        tracking_uri: where the server or the folder is, in place of MLFLOW_TRACKING_URI.
        every_steps: also the logs of every so many steps, as `batch/…`.
    """

    package = "mlflow"
    extra = "mlflow"

    def __init__(
        self, experiment: str | None = None, tracking_uri: str | None = None,
        every_steps: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(every_steps)
        self._experiment, self._uri = experiment, tracking_uri

    def service(self, run: RunInfo) -> Service:
        """MLflow."""
        uri = self._uri or os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            raise ConfigError(
                "callback MlflowLogger does not know where to report to: set MLFLOW_TRACKING_URI, "
                "or its argument tracking_uri"
            )
        name = self._experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "Default"
        return _Mlflow(uri, name, run)


class _Mlflow:
    """The one run there that has our run's id as a tag."""

    name = "MLflow"

    def __init__(self, uri: str, experiment: str, run: RunInfo) -> None:
        self._uri, self._experiment, self._run = uri, experiment, run
        self._client: Any = None
        self._id = ""
        self._known: dict[str, int] = {}  # the last step of each metric

    def connect(self) -> None:
        """Find the run, or create it."""
        # Without a word of ours it would look up a host of its makers, and retry for minutes.
        default_environment(
            MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_HTTP_REQUEST_TIMEOUT="10",
            MLFLOW_HTTP_REQUEST_MAX_RETRIES="1",
        )  # fmt: skip
        from mlflow import MlflowClient

        with _refusals():
            self._client = MlflowClient(self._uri)
            found = self._client.get_experiment_by_name(self._experiment)
            experiment = (
                found.experiment_id if found else self._client.create_experiment(self._experiment)
            )
            by_id = f"tags.`{_RUN_ID}` = '{self._run.id}'"
            runs = self._client.search_runs([experiment], by_id, order_by=["attributes.start_time"])
            run = runs[0] if runs else self._create(experiment)
            self._id = run.info.run_id
            self._client.update_run(self._id, status="RUNNING")
            # Of each metric: a kill may have come between two of a row.
            self._known = {
                name: max(one.step for one in self._client.get_metric_history(self._id, name))
                for name in run.data.metrics
            }
            self._describe(run.data.params)

    def send(self, rows: Sequence[Row]) -> None:
        """All numbers that it does not have."""
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, round(row.at * 1000), row.step)
            for row in rows
            for name, value in row.values.items()
            if row.step > self._known.get(name, -1)
        ]
        with _refusals():
            for some in _chunks(metrics, _MOST_METRICS):
                self._client.log_batch(self._id, metrics=some)
                self._known |= {metric.key: metric.step for metric in some}

    def has_kept(self, row: Row) -> bool:  # noqa: ARG002
        """It says so."""
        return True

    def finish(self) -> None:
        """FINISHED."""
        with _refusals():
            self._client.set_terminated(self._id, "FINISHED")

    def _create(self, experiment: str) -> Any:
        tags = {_RUN_ID: self._run.id, "trainer.run.run_dir": self._run.url}
        return self._client.create_run(experiment, tags=tags, run_name=self._run.name)

    def _describe(self, known: Any) -> None:
        """The configuration as parameters, which MLflow lets nobody change."""
        from mlflow.entities import Param

        params = [
            Param(key, _text(value)[:_MOST_CHARACTERS])
            for key, value in flat(self._run.config).items()
            if key not in known
        ]
        for some in _chunks(params, _MOST_PARAMS):
            self._client.log_batch(self._id, params=some)


@contextmanager
def _refusals() -> Iterator[None]:
    """ConfigError for what another try would not mend."""
    from mlflow.exceptions import MlflowException, RestException

    try:
        yield
    except RestException as error:
        if 400 <= error.get_http_status_code() < 500:
            raise ConfigError(f"MLflow refuses: {describe(error)}") from error
        raise
    except MlflowException as error:
        if "API request" in str(error):  # nobody answered, or not as a server does
            raise
        raise ConfigError(f"MLflow refuses: {describe(error)}") from error


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _chunks(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    return (list(items[at : at + size]) for at in range(0, len(items), size))
