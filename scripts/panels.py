"""Panels of a dashboard, made from the types of Grafana's own schema.

Expressions with a name that begins with `run:` are recorded series, filtered by run; all others
are filtered by the pods of a run's workers.
"""

from collections.abc import Sequence
from typing import TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as drawn
from grafana_foundation_sdk.models import dashboard as schema
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Panel = bargauge.Panel | stat.Panel | statetimeline.Panel | table.Panel | timeseries.Panel
# Expressions and their legends, or one expression.
Targets = tuple[str, str]
SOURCE = schema.DataSourceRef(type_val="prometheus", uid="${datasource}")
_RUN = '{namespace=~"$namespace", run=~"$run"}'
_WORKER = '{namespace=~"$namespace", pod=~"$worker"}'
_WINDOW = "[$__rate_interval]"
_P = TypeVar("_P", bargauge.Panel, stat.Panel, statetimeline.Panel, table.Panel, timeseries.Panel)


def of_run(name: str) -> str:
    """A recorded series of the chosen runs, without the `run:` in front."""
    return f"run:{name}{_RUN}"


def of_workers(metric: str, by: str = "", how: str = "max") -> str:
    """A metric of the chosen workers as it is."""
    return _by(by, how, f"{metric}{_WORKER}")


def rate(metric: str, by: str = "") -> str:
    """A counter of theirs, a second."""
    return _by(by, "sum", f"rate({metric}{_WORKER}{_WINDOW})")


def increase(metric: str, by: str) -> str:
    """A counter of theirs, over all the time that is shown."""
    return _by(by, "sum", f"increase({metric}{_WORKER}[$__range])")


def quantile(share: float, metric: str, by: str) -> str:
    """Of a histogram of theirs."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', f'le, {by}')})"


def _by(labels: str, how: str, expr: str) -> str:
    return f"{how} by ({labels}) ({expr})" if labels else f"{how}({expr})"


def number(title: str, about: str, expr: str, *, unit: str = "short") -> stat.Panel:
    """The latest value, large, over its curve."""
    panel = _described(stat.Panel(), title, about, width=4, height=4).unit(unit)
    latest = common.ReduceDataOptions().calcs(["lastNotNull"])
    return _asking(panel.reduce_options(latest), [(expr, title)])


def curves(
    title: str, about: str, *targets: Targets, unit: str = "short", width: int = 8,
    stacked: bool = False, most: float | None = None,
) -> timeseries.Panel:  # fmt: skip
    """Curves over time, up to `most` where that is known."""
    panel = _described(timeseries.Panel(), title, about, width=width, height=7).unit(unit)
    tooltip = common.VizTooltipOptions().mode(drawn.TooltipDisplayMode.MULTI)
    panel = panel.tooltip(tooltip).show_points(drawn.VisibilityMode.NEVER)
    if stacked:
        stacking = common.StackingConfig().mode(drawn.StackingMode.NORMAL)
        panel = panel.stacking(stacking).fill_opacity(60)
    if most is not None:
        panel = panel.min(0).max(most)
    return _asking(panel, targets)


def bars(title: str, about: str, *targets: Targets, unit: str) -> bargauge.Panel:
    """The latest value of each series as a bar."""
    panel = _described(bargauge.Panel(), title, about, width=8, height=7).unit(unit).min(0)
    return _asking(panel.orientation(drawn.VizOrientation.HORIZONTAL), targets)


def lines(title: str, about: str, *targets: Targets) -> statetimeline.Panel:
    """A line for each series, drawn while it is 1."""
    panel = _described(statetimeline.Panel(), title, about, width=24, height=8)
    colors = {"0": "transparent", "1": "blue"}
    shown = {
        value: schema.ValueMappingResult(text=" ", color=color, index=index)
        for index, (value, color) in enumerate(colors.items())
    }
    panel = panel.mappings([schema.ValueMap(options=shown)])
    return _asking(panel.show_value(drawn.VisibilityMode.NEVER), targets)


def rows(title: str, about: str, *exprs: str, height: int) -> table.Panel:
    """The latest series of all expressions, those of the same labels in one row."""
    panel = _described(table.Panel(), title, about, width=24, height=height)
    for name, expr in zip("ABCDEFGHIJ", exprs, strict=False):
        target = prometheus.Dataquery().expr(expr).datasource(SOURCE).ref_id(name)
        panel = panel.with_target(target.instant().format(PromQueryFormat.TABLE))
    return panel.with_transformation(schema.DataTransformerConfig(id_val="merge", options={}))


def organized(panel: table.Panel, *, hidden: Sequence[str], names: dict[str, str]) -> table.Panel:
    """With some columns left out, and others renamed."""
    options = {"excludeByName": dict.fromkeys(hidden, True), "renameByName": names}
    return panel.with_transformation(
        schema.DataTransformerConfig(id_val="organize", options=options)
    )


def _described(panel: _P, title: str, about: str, *, width: int, height: int) -> _P:
    panel = panel.title(title).description(about).datasource(SOURCE)
    return panel.span(width).height(height)


def _asking(panel: _P, targets: Sequence[Targets]) -> _P:
    for name, (expr, legend) in zip("ABCDEFGHIJ", targets, strict=False):
        target = prometheus.Dataquery().expr(expr).datasource(SOURCE).ref_id(name)
        panel = panel.with_target(target.range().legend_format(legend))
    return panel
