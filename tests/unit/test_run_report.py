"""The page of `trainer report`, and the command."""

import html
import json
import re
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

from tests.small_report import folder
from trainer.cli.report import report
from trainer.config.models import RunConfig
from trainer.errors import ConfigError
from trainer.run.facts import read_facts
from trainer.run.report import page as page_module
from trainer.run.report.chart import Chart, with_names_of_their_own
from trainer.run.report.charts import charts_of
from trainer.run.report.page import all_charts, differences, look_at, page
from trainer.run.run_dir import RunDir

NASTY = "<script>alert(1)</script>\"&'\x00\u202e ]]> --> $x$ {{ 7*7 }}"


class Outline(HTMLParser):
    """Names of elements, what they refer to, and all text outside of styles."""

    def __init__(self, text):
        super().__init__()
        self.names, self.links, self.text, self.ids = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                self.links.append(value)
            if name == "id":
                self.ids.append(value)
            assert not name.startswith("on")

    def handle_data(self, data):
        self.text.append(data)


def shown(*runs):
    return look_at([(run, read_facts(run)) for run in runs])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One that is complete, and one that was stopped."""
    path = tmp_path_factory.mktemp("runs")
    return [folder(path, "fast"), folder(path, "slow", is_complete=False, rate=0.01)]


@pytest.fixture(scope="module")
def made(runs, tmp_path_factory):
    """A folder with what the command wrote of the first, and what it said."""
    path = tmp_path_factory.mktemp("made")
    args = [runs[0].url, "--out", str(path / "new/report.html"), "--png", str(path / "png")]
    return path, CliRunner().invoke(report, args, catch_exceptions=False).output


@pytest.fixture(scope="module")
def one(made):
    return (made[0] / "new/report.html").read_text()


@pytest.fixture(scope="module")
def both(runs):
    return page(shown(*runs), now=0.0)


def test_all_that_is_to_be_seen(one):
    text = " ".join(Outline(one).text)
    for wanted in ("fast", "complete", "600 of 600", "signal 9", "killed", "fell back: checkpoint",
                   "data_wait", "3.15.0", "builtin:fashion_mnist", "by trainer",
                   "steps a second", "learning rate", "how long steps take", "accuracy",
                   "validation", "55.2%"):  # fmt: skip
        assert wanted in text, wanted
    assert one.count("<svg") == 7


def test_nothing_comes_from_elsewhere_and_nothing_runs(both):
    found = Outline(both)
    assert not set(found.names) & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert all(link.startswith(("#", "data:image/")) for link in found.links)
    assert not re.findall(r"url\((?!#)|@import", both)
    assert "default-src 'none'" in both


def test_what_is_referred_to_is_there_once(both):
    found = Outline(both)
    assert len(set(found.ids)) == len(found.ids)
    wanted = {link[1:] for link in found.links if link.startswith("#")}
    wanted |= set(re.findall(r"url\(#([^)]*)\)", both))
    assert wanted <= set(found.ids)


def test_several_runs_are_compared(both):
    text = " ".join(Outline(both).text)
    assert "2 runs" in text
    assert re.search(r"params\.learning_rate\s+0\.1\s+0\.01", " ".join(text.split()))
    assert both.count('<section id="run-') == 2
    assert both.count("<svg") == 8  # common ones, and two time lines


def test_names_that_are_the_same_are_told_apart(runs, tmp_path):
    other = folder(tmp_path, "fast")
    both = shown(runs[0], other)
    assert [each.facts.name for each in both] == [runs[0].url, other.url]
    names = [chart.name for chart in all_charts(both)]
    assert len(set(names)) == len(names) == 8


def test_charts_of_names_that_are_alike_have_names_of_their_own():
    alike = [Chart("metric-a-b", title, lambda _axes: None) for title in ("a b", "a+b", "a/b")]
    names = [chart.name for chart in with_names_of_their_own(alike)]
    assert names == ["metric-a-b", "metric-a-b-2", "metric-a-b-3"]


def test_text_of_a_run_is_text(tmp_path):
    run = folder(tmp_path, metric=NASTY, detail=NASTY)
    run.storage.write("pictures/<b>.png", b"no picture")
    run.storage.write("config.yaml", f"# {NASTY}".encode())
    text = page(shown(run), now=0.0)
    found = Outline(text)
    assert "script" not in found.names
    assert NASTY.replace("\x00", "") in "".join(found.text).replace("\x00", "").replace(
        "\ufffd", ""
    )
    assert "49" not in re.findall(r"\{\{ 7\*7 \}\}|>49<", html.unescape(text))
    assert "&lt;script&gt;" in text


def test_a_run_that_has_nothing_yet(tmp_path):
    run = RunDir(str(tmp_path / "new"))
    run.storage.write("config.yaml", b"")
    text = " ".join(Outline(page(shown(run), now=0.0)).text)
    assert "not started" in text
    assert "No curves yet" in text


def test_charts_of_numbers_that_are_hard_to_draw(tmp_path):
    run = folder(tmp_path)
    life = (
        '{"number": 3, "start": 600, "target": 9007199254740992, "train": {"steps": [601, 602],'
        '"times": [0, 0], "values": {"loss": [1e-308, 1e308], "none": [null, null]}},'
        '"durations": {"-400": 1, "4000": 5}}'
    )
    run.storage.write("curves/000003.json", life.encode())
    charts = {chart.name: chart for chart in charts_of([read_facts(run)])}
    assert set(charts) >= {"metric-loss", "metric-none", "step_durations"}
    for name in ("metric-loss", "metric-none", "step_durations"):
        assert charts[name].svg().startswith("<svg")


def test_a_run_without_curves_beside_one_that_has_some(runs, tmp_path):
    bare = RunDir(str(tmp_path / "bare"))
    bare.storage.write("config.yaml", b"")
    assert page(shown(runs[0], bare), now=0.0).count("<svg") == 7
    assert page(shown(bare, runs[0]), now=0.0).count("<svg") == 7


def test_powers_of_ten_are_numbers_and_no_formulas(tmp_path):
    run = folder(tmp_path)
    life = (
        '{"number": 3, "start": 600, "train": {"steps": [601, 602], "times": [0, 0],'
        '"values": {"loss": [1e-5, 1.0]}}, "rate": {"steps": [601, 602], "times": [0, 0],'
        '"values": {"learning_rate": [1e-5, 1.0]}}}'
    )
    run.storage.write("curves/000003.json", life.encode())
    charts = {chart.name: chart.svg() for chart in charts_of([read_facts(run)])}
    for name in ("metric-loss", "learning_rate"):
        said = Outline(charts[name]).text
        assert "0.001" in said
        assert not any(char in text for text in said for char in "${")


def test_charts_of_numbers_that_are_too_large(tmp_path):
    run = folder(tmp_path)
    life = (
        '{"number": 3, "start": 600, "train": {"steps": [601, 602], "times": [0, 0],'
        '"values": {"loss": [-1.7e308, 1.7e308]}}, "rate": {"steps": [601, 602], "times": [0, 0],'
        '"values": {"learning_rate": [-1.7e308, 1.7e308]}}, "speed": {"steps": [601],'
        '"times": [0], "values": {"num": [1.7e308], "seconds": [1], "waited": [-1.7e308]}},'
        '"durations": {"9007199254740992": 1}}'
    )
    for path in ("curves/000001.json", "curves/000002.json"):
        run.storage.delete(path)
    run.storage.write("curves/000003.json", life.encode())
    charts = charts_of([read_facts(run)])
    assert len(charts) == 5
    assert all(chart.svg().startswith("<svg") for chart in charts)


@pytest.mark.parametrize(
    "record", [{"changes": None}, {"changes": 5}, {"changes": [{"time": "x"}, 3, {"keys": 7}]}]
)
def test_a_record_that_is_damaged(tmp_path, record):
    run = folder(tmp_path)
    run.storage.write("run.json", json.dumps(record).encode())
    assert "</html>" in page(shown(run), now=0.0)


def test_halves_of_characters_and_controls_are_replaced(tmp_path):
    run = folder(tmp_path, detail="red \x1b[31m\x07 end")
    run.storage.write("run.json", json.dumps({"id": "a\ud800b"}).encode())
    summary = {"complete": True, "steps": 600, "epochs": 6, "test": {"acc\ud800": 1.0}}
    run.storage.write("summary.json", json.dumps(summary).encode())
    args = [run.url, "--out", str(tmp_path / "a.html")]
    CliRunner().invoke(report, args, catch_exceptions=False)
    text = (tmp_path / "a.html").read_text()
    assert "red \ufffd[31m\ufffd end" in text
    assert "id a\ufffdb" in text
    assert "test acc\ufffd" in text


def test_metrics_that_are_not_drawn_are_counted(tmp_path):
    run = folder(tmp_path)
    values = ", ".join(f'"m{number}": [1.0]' for number in range(13))
    epochs = f'{{"steps": [700], "times": [0], "values": {{{values}}}}}'
    life = f'{{"number": 3, "start": 600, "epochs": {epochs}}}'
    run.storage.write("curves/000003.json", life.encode())
    assert "3 more metrics are not drawn." in page(shown(run), now=0.0)


def test_the_command_writes_page_and_charts(made):
    path, said = made
    assert said == f"report: {path / 'new/report.html'}\ncharts: 7 in {path / 'png'}\n"
    assert {each.name for each in (path / "png").iterdir()} == {
        "metric-loss.png", "metric-accuracy.png", "learning_rate.png", "throughput.png",
        "data_wait.png", "step_durations.png", "time_line-1-fast.png",
    }  # fmt: skip
    assert all(each.read_bytes()[:4] == b"\x89PNG" for each in (path / "png").iterdir())
    assert (path / "new/report.html").stat().st_size < 300_000


def test_a_page_that_cannot_be_written_is_refused(runs, tmp_path):
    (tmp_path / "file").write_text("")
    args = [runs[0].url, "--out", str(tmp_path / "file" / "report.html")]
    result = CliRunner().invoke(report, args)
    assert isinstance(result.exception, ConfigError)
    assert "report.html cannot be written: " in str(result.exception)


def test_a_report_that_fails_leaves_the_page_that_was_there(runs, tmp_path, monkeypatch):
    def fail(_shown, now):
        raise ConfigError(f"{now}")

    (tmp_path / "keep.html").write_text("precious")
    monkeypatch.setattr(page_module, "page", fail)
    result = CliRunner().invoke(report, [runs[0].url, "--out", str(tmp_path / "keep.html")])
    assert isinstance(result.exception, ConfigError)
    assert [each.name for each in tmp_path.iterdir()] == ["keep.html"]
    assert (tmp_path / "keep.html").read_text() == "precious"


def test_links_are_written_through_and_nothing_else_stays(runs, tmp_path):
    (tmp_path / "old.html").write_text("old")
    (tmp_path / "link.html").symlink_to("old.html")
    for name in ("link.html", "new.html"):
        args = [runs[0].url, "--out", str(tmp_path / name)]
        CliRunner().invoke(report, args, catch_exceptions=False)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.html", "new.html", "old.html"]
    assert (tmp_path / "link.html").is_symlink()
    assert "</html>" in (tmp_path / "old.html").read_text()


@pytest.mark.parametrize("value", ["gs://bucket/a.html", "file:///a.html", "", " ", "-"])
@pytest.mark.parametrize("option", ["--out", "--png"])
def test_what_is_no_local_path_is_refused(runs, tmp_path, monkeypatch, option, value):
    monkeypatch.chdir(tmp_path)
    rest = [] if option == "--out" else ["--out", "a.html"]
    result = CliRunner().invoke(report, [runs[0].url, option, value, *rest])
    assert isinstance(result.exception, ConfigError)
    assert f"{option} {value.strip() or repr(value)} " in str(result.exception)
    assert f"write {option} " in str(result.exception) or f"as {option} " in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_named_twice_is_one(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = runs[0].url
    parent, _, name = url.rpartition("/")
    args = [url, f"{parent}/./{name}/", f"file://{url}", "--out", "a.html"]
    CliRunner().invoke(report, args, catch_exceptions=False)
    assert (tmp_path / "a.html").read_text().count('<section id="run-') == 1


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"jinja2 and matplotlib: pip install 'trainer-k8s\[pict"):
        page_module.check_installed()


def test_configurations_differ_by_key():
    tree = {"recipe": "a", "data": {"url": "u", "batch_size": 8}, "train": {"epochs": 1}}
    first = RunConfig.model_validate(tree)
    second = RunConfig.model_validate(tree | {"train": {"epochs": 2}, "run": {"dir": "b"}})
    assert differences([first, second, None])[0] == ("recipe", ["a", "a", ""])
    assert differences([first, second]) == [("train.epochs", ["1", "2"])]
