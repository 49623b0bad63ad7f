import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nasplug.benchmarks import open_benchmark
from nasplug.plugins.cli.app import run
from nasplug.spaces import NASBench201

STRINGS = NASBench201().to_string(NASBench201().all()[[5, 100, 7777]])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NASPLUG_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    frame = pd.DataFrame({"arch_str": STRINGS, "acc12": [60.5, 70, 80.25], "acc200": [90, 91, 92.5], "lat": [3, 1, 2]})
    frame.to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path / "labels.csv"


def added(labels: Path, *more: str) -> list[str]:
    options = ["--space", "nasbench201", "--arch-column", "arch_str", "--name", "mine", "--partial"]
    return [
        "data",
        "add",
        str(labels),
        *options,
        *(more or ("--metric", "acc12=valid@12", "--metric", "lat=latency_ms")),
    ]


def answered(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_add_says_what_it_did(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(added(labels)) == 0
    said = capsys.readouterr().out
    assert "acc12: taken as percent" in said
    assert "3 of the 15625 architectures of nasbench201" in said
    assert "mine: 3 architectures, valid@12, latency_ms" in said
    assert "search sees valid@12, report shows valid@12" in said
    assert "note: One split only" in said
    facts = answered(capsys, *added(labels, "--metric", "acc200=test@200"))
    assert facts[0]["metrics"] == ["valid@12", "latency_ms", "test@200"]
    assert facts[0]["added"] == ["test@200"]
    assert facts[0]["report"] == "test@200"
    assert Path(facts[0]["file"]).is_file()


def test_options_reach_the_table(labels: Path) -> None:
    metrics = ("--metric", "acc12=valid@12", "--metric", "acc200=valid@200")
    more = ("--unit", "percent", "--search", "valid@12", "--report", "valid@200", "--source", "us", "--licence", "CC0")
    assert run(added(labels, *metrics, *more, "--format", "csv")) == 0
    table = open_benchmark("mine")
    assert (str(table.search), str(table.report)) == ("valid@12", "valid@200")
    assert (table.provenance()["source"], table.provenance()["licence"]) == ("us", "CC0")
    assert run(added(labels, *metrics)) == 2
    assert run(added(labels, *metrics, "--replace")) == 0


def test_list(labels: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(added(labels))
    (folder / "tables" / "broken.arrow").write_text("x")
    capsys.readouterr()
    rows = {row["name"]: row for row in answered(capsys, "data", "list")}
    assert rows["nasbench201-cifar10"]["kind"] == "built-in"
    assert rows["mine"]["rows"] == 3
    assert rows["mine"]["metrics"] == ["valid@12", "latency_ms"]
    assert rows["broken"]["kind"] == "damaged"
    assert "not a usable nasplug table" in rows["broken"]["error"]
    assert run(["data", "list"]) == 0
    shown = capsys.readouterr().out
    assert "mine" in shown
    assert "nasbench-graph-cora" in shown


def test_info(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(added(labels))
    capsys.readouterr()
    facts = answered(capsys, "data", "info", "mine")
    one = {"training_seeds": 1, "training_seeds_everywhere": 1}
    assert facts["metrics"]["valid@12"] == one | {
        "best": 0.8025,
        "mean": pytest.approx((0.605 + 0.7 + 0.8025) / 3),
        "median": 0.7,
    }
    assert facts["metrics"]["latency_ms"] == one | {"best": 1.0, "mean": 2.0, "median": 2.0}  # a cost is best low
    assert facts["rows"] == 3
    assert facts["checksum_verified"] is True
    assert facts["source"].startswith("labels.csv")
    assert run(["data", "info", "mine"]) == 0
    shown = capsys.readouterr().out
    for part in (
        "3 of 15625 architectures",
        "valid@12",
        "0.8025",
        "(verified)",
        "licence: not stated",
        "note: One split",
    ):
        assert part in shown


def test_info_of_a_built_in_table(capsys: pytest.CaptureFixture[str]) -> None:
    facts = answered(capsys, "data", "info", "nasbench-graph-proteins")
    assert facts["rows"] == 2021
    assert facts["licence"] == "Apache-2.0"
    assert "ROC-AUC" in facts["notes"][0]


def test_seeds_are_shown_as_a_range(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"arch": STRINGS, "valid#0": [0.1, 0.2, 0.3], "valid#1": [0.1, None, 0.3]})
    frame.to_csv(tmp_path / "seeds.csv", index=False)
    assert run(["data", "add", str(tmp_path / "seeds.csv"), "--space", "nasbench201", "--partial"]) == 0
    assert run(["data", "info", "seeds"]) == 0
    assert "1 to 2" in capsys.readouterr().out


def test_export(labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(added(labels))
    capsys.readouterr()
    target = tmp_path / "out.csv"
    facts = answered(capsys, "data", "export", "mine", str(target))
    assert facts == {"name": "mine", "file": str(target), "rows": 3, "columns": ["valid@12", "latency_ms"]}
    assert pd.read_csv(target).set_index("architecture")["valid@12"].loc[STRINGS].tolist() == [0.605, 0.7, 0.8025]
    assert run(["data", "export", "mine", str(tmp_path / "out.parquet")]) == 0
    assert "3 architectures" in capsys.readouterr().out
    assert len(pd.read_parquet(tmp_path / "out.parquet")) == 3


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["data", "add", "absent.csv"], "no file or folder absent.csv"),
        (["data", "add", "LABELS"], "give --space"),
        (["data", "add", "LABELS", "--space", "nasbench20"], "did you mean nasbench201"),
        (["data", "add", "LABELS", "--space", "nasbench201", "--arch-column", "arch"], "did you mean arch_str"),
        (["data", "add", "LABELS", "--space", "nasbench201", "--metric", "acc=valid"], "did you mean acc12 or acc200"),
        (
            ["data", "add", "LABELS", "--space", "nasbench201", "--metric", "acc12=valid", "--unit", "fraction"],
            "is it percent?",
        ),
        (
            ["data", "add", "LABELS", "--space", "nasbench201", "--metric", "acc12=valid"],
            "3 of the 15625 architectures of nasbench201; missing is, for example, |none~0|+|none~0|none~1|+",
        ),
        (["data", "add", "LABELS", "--unit", "permille"], "permille"),
        (["data", "add", "LABELS", "--format", "excel"], "unknown format 'excel'"),
        (["data", "add"], "Missing argument"),
        (["data", "info", "absent"], "unknown benchmark 'absent'"),
        (["data", "export", "nasbench-graph-proteins", "x.xlsx"], "expected a file named .csv"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    labels: Path, folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], match: str
) -> None:
    assert run([str(labels) if word == "LABELS" else word for word in arguments]) == 2
    error = capsys.readouterr().err
    assert match in error
    assert error.count("\n") == 1
    assert not (folder / "tables").exists()


def test_benchmarks_that_are_no_tables(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("nasplug.benchmarks.open_benchmark", lambda name: object())
    assert run(["data", "info", "something"]) == 2
    assert "not a table" in capsys.readouterr().err


@pytest.mark.reference
def test_shared_files_as_they_are(reference_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = reference_data / "nasbench201"
    common = ["--name", "nb201-c10", "--space", "nasbench201", "--arch-column", "arch_str"]
    short = ["--metric", "cifar10_valid_accuracy=valid@12", "--metric", "cifar10_test_accuracy=test@12"]
    assert run(["data", "add", str(source / "epochs12.csv.gz"), *common, *short]) == 0
    long = ["--metric", "cifar10_test_accuracy=test@200"]
    assert run(["data", "add", str(source / "epochs200.csv.gz"), *common, *long]) == 0
    capsys.readouterr()
    facts = answered(capsys, "data", "info", "nb201-c10")
    assert facts["rows"] == 15625
    best = {name: round(one["best"], 6) for name, one in facts["metrics"].items()}
    assert best == {"valid@12": 0.84892, "test@12": 0.8916, "test@200": 0.943733}
    assert (facts["search"], facts["report"]) == ("valid@12", "test@200")


def test_lengths_that_are_one_training(labels: Path) -> None:
    metrics = ("--metric", "acc12=valid@12", "--metric", "acc200=valid@200")
    assert run(added(labels, *metrics, "--continues")) == 0
    assert open_benchmark("mine").continues
    assert open_benchmark("mine").fidelities("valid") == (12, 200)
