"""Writes the dashboards of helm/trainer-monitoring: one of all runs, one of a run and its workers.

What both ask for is a recorded series (rules/recorded.yaml).
"""

import json
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, table
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as schema

from scripts.panels import (
    SOURCE,
    Panel,
    bars,
    curves,
    increase,
    lines,
    number,
    of_run,
    of_workers,
    organized,
    quantile,
    rate,
    rows,
)

FOLDER = Path(__file__).parents[1] / "helm" / "trainer-monitoring" / "dashboards"
BY_RUN = "{{namespace}}/{{run}}"
BY_POD = "{{pod}}"
BY_GPU = "{{pod}} GPU {{gpu}}"
BY_CODE = "{{operation}} {{code}}"
PROGRESS = of_run("trainer_progress:ratio")
LEFT = of_run("trainer_left_seconds:estimate")
STEPS = of_run("trainer_steps:rate")
GOODPUT = of_run("trainer_goodput:ratio")
CAUSES = of_run("trainer_goodput_seconds:rate")
GENERATION = of_run("trainer_generation:max")
PRESENT = of_run("trainer_group_present_workers:min")
WANTED = of_run("trainer_group_wanted_workers:max")
SAVED = of_run("trainer_checkpoint_last_success_timestamp_seconds:max")
STEPPED = of_run("trainer_last_step_timestamp_seconds:max")
RISES = "Each life of the workers has its number: a rise is a restart."
BRINGS_ON = "Share of the time that goes to steps which bring a run on."
DONE = "Steps done, of those that complete the run."
# Of the table of all runs: column, expression, unit.
COLUMNS = (
    ("Done", PROGRESS, "percentunit"),
    ("Left", LEFT, "s"),
    ("Steps a second", STEPS, "short"),
    ("Goodput", GOODPUT, "percentunit"),
    ("Workers", PRESENT, "short"),
    ("Generation", GENERATION, "short"),
    ("Since the last checkpoint", f"time() - {SAVED}", "s"),
)
ONE_RUN = (
    "/d/trainer-run?${datasource:queryparam}"
    "&var-namespace=${__data.fields.namespace}&var-run=${__value.text}"
)


def all_runs() -> table.Panel:
    """A row for each run, whose name leads to its dashboard."""
    names = {
        f"Value #{letter}": name for letter, (name, _, _) in zip("ABCDEFG", COLUMNS, strict=True)
    }
    # Without their names, which would keep the series of a run in rows of their own.
    exprs = [f"max by (namespace, run) ({expr})" for _, expr, _ in COLUMNS]
    panel = rows("Runs", "A run leads to its dashboard.", *exprs, height=9)
    panel = organized(panel, hidden=("Time",), names=names)
    for name, _, unit in COLUMNS:
        panel = panel.override_by_name(name, [schema.DynamicConfigValue(id_val="unit", value=unit)])
    link = {"title": "Show this run", "url": ONE_RUN}
    return panel.override_by_name("run", [schema.DynamicConfigValue(id_val="links", value=[link])])


def versions() -> table.Panel:
    """What runs, a row for each worker."""
    labels = "pod, version, tensorflow, keras, backend, python"
    expr = of_workers("trainer_build_info", labels)
    panel = rows("Versions", "What the workers run.", expr, height=5)
    return organized(panel, hidden=("Time", "Value"), names={})


FLEET: tuple[Panel, ...] = (
    all_runs(),
    curves("Progress", DONE, (PROGRESS, BY_RUN), unit="percentunit", most=1),
    curves("Steps a second", "Optimizer steps of each run.", (STEPS, BY_RUN)),
    curves("Goodput", BRINGS_ON, (GOODPUT, BY_RUN), unit="percentunit", most=1),
    curves("Where the time goes", "Seconds a second by cause, the mean of the runs.",
           (f"avg by (cause) ({CAUSES})", "{{cause}}"), stacked=True, most=1),
    curves("Workers away", "Of those that a run is to have.", (f"{WANTED} - {PRESENT}", BY_RUN)),
    curves("Generation", RISES, (GENERATION, BY_RUN)),
)  # fmt: skip

RUN: dict[str, tuple[Panel, ...]] = {
    "Now": (
        number("Done", DONE, PROGRESS, unit="percentunit"),
        number("Left", "Until the run is complete, at the present rate.", LEFT, unit="s"),
        number("Goodput", BRINGS_ON, GOODPUT, unit="percentunit"),
        number("Workers", "Of the present generation; 0 while there is none.", PRESENT),
        number("Generation", RISES, GENERATION),
        number("Since the last checkpoint", "So much work is lost with a worker now.",
               f"time() - {SAVED}", unit="s"),
    ),
    "Where the time goes": (
        curves("Seconds a second", "By cause, which come to 1; docs/goodput.md explains them.",
               (CAUSES, "{{cause}}"), stacked=True, width=16, most=1),
        bars("Seconds by cause", "Of the time that is shown.",
             (increase("trainer_goodput_seconds_total", "cause"), "{{cause}}"), unit="s"),
        lines("Phase", "What workers are at: a line is drawn while any of them is.",
              (of_workers("trainer_phase", "phase"), "{{phase}}")),
    ),
    "Learning": (
        curves("Loss", "The latest of the epoch so far, and of validation.",
               (of_workers("trainer_loss", "split"), "{{split}}")),
        curves("Metrics", "As the model was compiled with them.",
               (of_workers("trainer_metric", "split, metric"), "{{split}} {{metric}}")),
        curves("Learning rate", "And the norm of the gradients, where train.gradient_norm is set.",
               (of_workers("trainer_learning_rate"), "learning rate"),
               (of_workers("trainer_gradient_norm"), "gradient norm")),
    ),
    "Speed": (
        curves("Steps", "Done, and those that complete the run.",
               (of_run("trainer_global_step:max"), "done"),
               (of_run("trainer_target_step:max"), "all")),
        curves("Steps and examples a second", "Of all workers together, no padding.",
               (STEPS, "steps"), (of_run("trainer_examples:rate"), "examples")),
        curves("Epoch", "From 0.", (of_workers("trainer_epoch"), "epoch")),
        curves("Step time", "Half of the steps, and all but one in a hundred, take no longer.",
               (quantile(0.5, "trainer_step_duration_seconds", "pod"), "{{pod}} half"),
               (quantile(0.99, "trainer_step_duration_seconds", "pod"), "{{pod}} 99 %"), unit="s"),
        curves("Waiting for data", "Share of the time that steps waited.",
               (rate("trainer_data_wait_seconds_total", "pod"), BY_POD),
               (of_run("trainer_data_wait:ratio"), "slowest"), unit="percentunit"),
        curves("Steps and records lost", "Losses that are not finite, gradients that overflowed.",
               (of_workers("trainer_nonfinite_steps_total"), "not finite"),
               (of_workers("trainer_skipped_steps_total"), "overflowed"),
               (of_workers("trainer_data_bad_records_total", how="sum"), "bad records")),
    ),
    "Checkpoints": (
        curves("Time of a save", "From snapshot to commit, in the background, on average.",
               (of_run("trainer_checkpoint_save_duration_seconds:mean"), "mean"), unit="s"),
        curves("Standing still for saves", "Share of the time.",
               (rate("trainer_checkpoint_blocked_seconds_total", "pod"), BY_POD),
               unit="percentunit"),
        curves("Last checkpoint", "Its step.",
               (of_workers("trainer_checkpoint_last_success_step"), "step")),
        curves("Saves", "By result, since the pods began.",
               (of_workers("trainer_checkpoint_saves_total", "result", how="sum"), "{{result}}")),
        curves("Restores", "A fallback is a damaged checkpoint that was passed over.",
               (of_workers("trainer_checkpoint_restores_total"), "restores"),
               (of_workers("trainer_checkpoint_fallbacks_total"), "fallbacks")),
        curves("Written", "Of committed checkpoints.",
               (rate("trainer_checkpoint_written_bytes_total"), "written"), unit="Bps"),
    ),
    "Workers": (
        curves("Restarts", "Workers started anew since the pods began, by why they had ended.",
               (of_workers("trainer_worker_restarts_total", "cause", how="sum"), "{{cause}}")),
        curves("Waiting for each other", "Share of the time.",
               (rate("trainer_gathering_seconds_total", "pod"), BY_POD), unit="percentunit"),
        curves("Workers", "In the present generation, and those that the run is to have.",
               (PRESENT, "present"), (WANTED, "wanted")),
        curves("Since the last step", "Of the worker that stepped last.",
               (f"time() - {STEPPED}", "run"), unit="s"),
        curves("Resident memory", "Of the worker's process.",
               (of_workers("trainer_worker_resident_memory_bytes", "pod"), BY_POD), unit="bytes"),
        curves("Exit code", "With which the run has ended; docs/failures.md explains it.",
               (of_run("trainer_run_exit_code:max"), "code")),
        versions(),
    ),
    "GPUs": (
        curves("Memory of GPUs", "In use by the worker.",
               (of_workers("trainer_gpu_memory_bytes", "pod, gpu"), BY_GPU), unit="bytes"),
        curves("Peak memory of GPUs", "The most that was in use so far.",
               (of_workers("trainer_gpu_memory_peak_bytes", "pod, gpu"), BY_GPU), unit="bytes"),
        curves("Utilisation of GPUs", "By NVIDIA's dcgm-exporter, where it is scraped.",
               (of_workers("DCGM_FI_DEV_GPU_UTIL", "pod, gpu"), BY_GPU), unit="percent", most=100),
    ),
    "Storage": (
        curves("Requests", "By what they did and how they ended, repeated ones included.",
               (rate("trainer_storage_requests_total", "operation, code"), BY_CODE),
               unit="reqps"),
        curves("Repeated requests", "Share of all, and how many a second by what they did.",
               (of_run("trainer_storage_retries:ratio"), "share"),
               (rate("trainer_storage_retries_total", "operation"), "{{operation}}")),
        curves("Bytes", "Moved by requests that were answered.",
               (rate("trainer_storage_bytes_total", "operation"), "{{operation}}"), unit="Bps"),
    ),
}  # fmt: skip


def begun(title: str, uid: str, about: str, *, several: bool) -> dashboard.Dashboard:
    """A dashboard without panels: its variables and annotations."""
    made = dashboard.Dashboard(title).uid(uid).description(about).tags(["trainer"]).editable()
    made = made.time("now-6h", "now").refresh("30s").timezone("browser")
    made = made.tooltip(schema.DashboardCursorSync.CROSSHAIR)
    source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    runs = 'label_values(trainer_run_info{namespace=~"$namespace"}, run)'
    made = made.with_variable(source)
    made = made.with_variable(
        variable("namespace", "label_values(trainer_run_info, namespace)", several=several)
    )
    made = made.with_variable(variable("run", runs, several=several))
    restarts = annotation("Restarts", "red", f"changes({GENERATION}[1m]) > 0")
    saves = annotation("Checkpoints", "green", f"changes({SAVED}[1m]) > 0")
    return made.annotation(restarts).annotation(saves.enable(not several))


def variable(name: str, values: str, *, several: bool) -> dashboard.QueryVariable:
    """A choice among the values of a label."""
    made = dashboard.QueryVariable(name).label(name.capitalize()).datasource(SOURCE).query(values)
    made = made.refresh(schema.VariableRefresh.ON_TIME_RANGE_CHANGED)
    made = made.sort(schema.VariableSort.ALPHABETICAL_ASC)
    return made.multi(several).include_all(several)


def annotation(name: str, color: str, expr: str) -> dashboard.AnnotationQuery:
    """A mark in all curves where the expression has a series."""
    made = dashboard.AnnotationQuery().name(name).datasource(SOURCE).enable(True)
    return made.icon_color(color).expr(expr)


def fleet() -> dashboard.Dashboard:
    """All runs."""
    made = begun("Training runs", "trainer-runs", "All runs of the trainer.", several=True)
    for number_of_it, panel in enumerate(FLEET, start=1):
        made = made.with_panel(panel.id(number_of_it))
    return made


def one_run() -> dashboard.Dashboard:
    """A run, of all its workers or of those that are chosen."""
    about = "A run of the trainer, and its workers."
    made = begun("Training run", "trainer-run", about, several=False)
    pods = 'label_values(trainer_run_info{namespace=~"$namespace", run=~"$run"}, pod)'
    made = made.with_variable(variable("worker", pods, several=True))
    used = 0
    for title, panels in RUN.items():
        made = made.with_row(dashboard.Row(title).id(used := used + 1))
        for panel in panels:
            made = made.with_panel(panel.id(used := used + 1))
    return made


def documents() -> dict[Path, str]:
    """The text of each file."""
    made = {"runs": fleet(), "run": one_run()}
    return {
        FOLDER / f"{name}.json": json.dumps(one.build(), cls=JSONEncoder, indent=2) + "\n"
        for name, one in made.items()
    }


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text)
