"""What a comparison says of itself while it runs: bars on a terminal, plain lines elsewhere."""

import io

import pytest
from rich.console import Console

from nasplug.benchmarks.compare import Landed
from nasplug.plugins.cli import progress
from nasplug.plugins.cli.app import run
from nasplug.plugins.cli.progress import Watch

RUNS = {"random": 4, "weaknas": 4}


@pytest.fixture
def clock(monkeypatch):
    """Time that stands still until it is told."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def land(watch, clock, strategy, how, seconds):
    clock[0] += seconds
    watch(Landed("table", strategy, 0, how))


def test_plain_lines_where_nobody_watches(clock):
    shown = io.StringIO()
    with Watch(RUNS, Console(file=shown)) as watch:
        for strategy, how in [("random", "reused")] * 2 + [("random", "computed")] * 2 + [("weaknas", "computed")] * 3:
            land(watch, clock, strategy, how, 0 if how == "reused" else 10)
        land(watch, clock, "weaknas", "failed", 50)
        watch.stage("statistics")
    lines = shown.getvalue().splitlines()
    assert lines[0] == "3 of 8 runs, 10 s, about 50 s left"
    assert lines[-2] == "7 of 8 runs, 50 s, about 10 s left"
    assert lines[-1] == "8 of 8 runs, 1 min 40 s, 1 failed"
    assert "\x1b" not in shown.getvalue()


def test_a_quick_comparison_says_one_line(clock):
    shown = io.StringIO()
    with Watch(RUNS, Console(file=shown)) as watch:
        for strategy in RUNS:
            for _ in range(4):
                land(watch, clock, strategy, "computed", 0.1)
    assert shown.getvalue().splitlines() == ["8 of 8 runs, 1 s"]


def test_nothing_for_machines_and_nothing_where_all_was_there(clock):
    shown = io.StringIO()
    with Watch(RUNS, Console(file=shown), quiet=True) as watch:
        land(watch, clock, "random", "computed", 60)
    with Watch(RUNS, Console(file=shown)) as watch:
        land(watch, clock, "random", "reused", 60)
    assert shown.getvalue() == ""


def test_a_terminal_shows_a_bar_a_strategy_and_counts_failures():
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=100, color_system=None)
    with Watch({"random": 2, "[odd]": 1}, console) as watch:
        watch(Landed("table", "random", 0, "reused"))
        watch(Landed("table", "random", 1, "computed"))
        watch(Landed("table", "[odd]", 0, "failed"))
        watch.stage("statistics")
        watch._live.refresh()
        text = shown.getvalue()
    assert "statistics" in text
    assert "3/3" in text
    assert "2/2" in text
    assert "[odd]" in text
    assert "1 failed" in text


def test_time_left_ignores_what_was_there():
    console = Console(file=io.StringIO(), force_terminal=True)
    with Watch({"random": 200}, console) as watch:
        for _ in range(100):
            watch(Landed("table", "random", 0, "reused"))
        task = watch._all.tasks[0]
        assert task.completed == 100
        assert task.speed is None  # nothing was made yet


@pytest.mark.parametrize(("seconds", "text"), [(3.2, "3 s"), (75, "1 min 15 s"), (7500, "2 h 5 min")])
def test_spans(seconds, text):
    assert progress._span(seconds) == text


def test_report_opens_in_the_browser(small_table, tmp_path, monkeypatch, capsys):
    pytest.importorskip("plotly", reason="the report needs nasplug[report]")
    command = ["compare", "-b", str(small_table), "-s", "random", "--seeds", "2", "--budget", "5", "--jobs", "1"]
    assert run([*command, "--no-html", "--out", str(tmp_path)]) == 0
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    assert run(["report", str(tmp_path), "--open"]) == 0
    assert opened == [(tmp_path / "report.html").as_uri()]
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    assert run(["report", str(tmp_path), "--open"]) == 0
    assert "no browser to open here" in capsys.readouterr().err
    assert run(["report", str(tmp_path), "--open", "--no-html"]) == 2
    assert "--no-html does not write" in capsys.readouterr().err
