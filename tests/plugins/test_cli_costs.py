"""``nasplug cost-model`` and ``nasplug search --max-latency``, as a person types them."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nasplug.benchmarks import Signal, Table, TableInfo, write_table
from nasplug.plugins.cli.app import run
from nasplug.spaces import NASBench201

pytest.importorskip("torch")
SMALL = ["--side", "8", "--size", "channels=4", "--size", "cells=1", "--spread", "5"]
CONVOLUTIONS = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"


@pytest.fixture(scope="module")
def latencies(tmp_path_factory):
    """A table of accuracies and latencies of two devices, additive in the operations."""
    space, rng = NASBench201(), np.random.default_rng(0)
    genotypes = space.sample_distinct(600, rng)
    features = space.encode(genotypes).astype(float)
    costs = rng.random(features.shape[1])
    columns = {"valid": rng.random(600)}
    for device in ("phone", "server"):  # much alike
        columns[f"latency_{device}_ms"] = 5.0 + features @ (costs + 0.1 * rng.random(len(costs)))
    info = TableInfo("nasbench201", Signal("valid"), Signal("valid"), "a test", "none")
    path = tmp_path_factory.mktemp("tables") / "devices.arrow"
    write_table(Table(info, space, genotypes, columns).to_arrow(), path)
    return str(path)


def output(capsys, *arguments):
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_measure_fit_predict_search(tmp_path, capsys, small_table):
    rows, model = str(tmp_path / "rows.csv"), str(tmp_path / "model.npz")
    found = output(capsys, "cost-model", "measure", "nasbench201", "--out", rows, "--count", "6", *SMALL)
    assert found["architectures"] == 6
    assert found["protocol"] == "eager on cpu, 1 thread, 1x3x8x8, cells 1, channels 4"
    again = output(capsys, "cost-model", "measure", "nasbench201", "--out", rows, "--count", "6", *SMALL)
    assert again["range_ms"] == found["range_ms"]
    fitted = output(capsys, "cost-model", "fit", "lookup", "--data", rows, "--out", model)
    assert fitted["seen"]["tested"] == 6
    assert fitted["note"] == "6 measurements for 30 operations: few-shot is made for so few"
    assert output(capsys, "cost-model", "fit", "flops", "--data", rows, "--out", model)["note"] is None
    predicted = output(capsys, "cost-model", "predict", model, CONVOLUTIONS)
    assert predicted[0]["latency_ms"] > 0
    whole = output(capsys, "cost-model", "evaluate", model, "--data", rows)
    assert whole["rows"][0]["tested"] == 6


def test_other_classes_are_another_protocol(tmp_path, capsys):
    measure = ("cost-model", "measure", "nasbench201", "--out", str(tmp_path / "rows.csv"), "--count", "1", *SMALL)
    found = output(capsys, *measure, "--classes", "100")
    assert found["protocol"] == "eager on cpu, 1 thread, 1x3x8x8, 100 classes, cells 1, channels 4"
    assert run(measure) == 2
    assert "choose another file" in capsys.readouterr().err


def test_the_file_of_the_tutorial_is_enough(tmp_path, capsys):
    page = Path(__file__).parents[2] / "docs" / "tutorials" / "cost_model.md"
    (block,) = re.findall(r"^```csv\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    rows, model = tmp_path / "phone.csv", str(tmp_path / "model.npz")
    rows.write_text(block + f'nasbench201,"{CONVOLUTIONS}",20.5')
    fitted = output(capsys, "cost-model", "fit", "few-shot", "--data", str(rows), "--out", model)
    assert fitted["device"] == "phone"
    assert fitted["seen"]["tested"] == 3
    assert output(capsys, "cost-model", "predict", model, CONVOLUTIONS)[0]["deviation_ms"] > 0


def test_a_drifting_machine_is_reported(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nasplug.cost_models.measuring.drift", lambda *a, **k: 6.0)
    assert run(["cost-model", "measure", "nasbench201", "--out", str(tmp_path / "r.csv"), "--count", "2", *SMALL]) == 0
    assert "the first network takes +600% now" in capsys.readouterr().out


def test_few_shot_from_a_bank_and_search_under_its_budget(tmp_path, capsys, latencies):
    model = str(tmp_path / "model.npz")
    arguments = ("--data", latencies, "--device", "phone", "--bank", latencies, "--sources", "server", "--count", "10")
    output(capsys, "cost-model", "fit", "few-shot", *arguments, "--out", model)
    whole = output(capsys, "cost-model", "evaluate", model, "--data", latencies, "--device", "phone")
    assert whole["rows"][0]["spearman"] > 0.9
    found = output(
        capsys, "search", "-b", latencies, "-s", "random", "--budget", "5", "--max-latency", "9", "--cost-model", model
    )
    assert found["recommendation"] is None or found["recommendation"]["latency_ms"] <= 9


def test_a_latency_of_the_table_is_the_truth(capsys, latencies):
    search = ("search", "-b", latencies, "-s", "random", "--budget", "30", "--cost-model", "latency_phone_ms")
    assert run([*search, "--max-latency", "8"]) == 2  # most cells have no latency there
    assert "does not hold" in capsys.readouterr().err


def test_a_budget_on_a_whole_table(capsys):
    search = ("search", "-b", "nasbench201-cifar10", "-s", "weaknas", "--budget", "12", "--cost-model", "latency_ms")
    found = output(capsys, *search, "--max-latency", "11")
    assert found["recommendation"]["latency_ms"] <= 11
    assert found["max_latency_ms"] == 11
    assert run([*search, "--max-latency", "11"]) == 0
    assert "predicted latency" in capsys.readouterr().out
    assert run([*search, "--max-latency", "11", "--margin", "0.5"]) == 2
    assert "a margin of 0.5 has no effect; leave it out" in capsys.readouterr().err
    for bound, message in (("2", "the cheapest found"), ("7.2", "a budget of 12 queries is more than the")):
        assert run([*search, "--max-latency", bound]) == 2
        assert message in capsys.readouterr().err


def test_evaluate_draws_learning_curves_and_a_page(tmp_path, capsys, latencies):
    page = tmp_path / "page.html"
    arguments = ("--data", latencies, "--device", "server", "--counts", "20,60", "--seeds", "2")
    found = output(capsys, "cost-model", "evaluate", "lookup", *arguments, "--html", str(page))
    few, many = found["rows"]
    assert (few["count"], many["count"], many["seeds"]) == (20, 60, 2)
    assert many["spearman"] > few["spearman"]
    assert many["spearman"] > 0.95
    text = page.read_text()
    assert "lookup of server" in text
    assert "<script src" not in text  # nothing is fetched
    assert run(["cost-model", "evaluate", "lookup", *arguments]) == 0
    assert "Spearman" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "lookup", "--data", "LATENCIES", "--out", "m.npz"], "choose one with --device: phone, server"),
        (["fit", "lookup", "--data", "LATENCIES", "--device", "fridge", "--out", "m.npz"], "unknown device"),
        (
            ["fit", "lookup", "--data", "LATENCIES", "--device", "phone", "--bank", "LATENCIES", "--out", "m.npz"],
            "--bank",
        ),
        (["fit", "lookup", "--data", "LATENCIES", "--device", "phone", "--count", "9999", "--out", "m.npz"], "600"),
        (["fit", "nonsense", "--data", "LATENCIES", "--device", "phone", "--out", "m.npz"], "unknown cost model"),
        (["fit", "lookup", "--data", "rows.csv", "--device", "phone", "--out", "m.npz"], "leave --device out"),
        (["fit", "lookup", "--data", "rows.csv", "--out", "m.npz"], "cannot read the measurements"),
        (["fit", "lookup", "--data", "LATENCIES", "--device", "phone", "--out", "model"], "expects FILE.npz"),
        (["fit", "mlp:hidden=true", "--data", "LATENCIES", "--device", "phone", "--out", "m.npz"], "str or int"),
        (["fit", "transfer", "--data", "LATENCIES", "--device", "phone", "--out", "m.npz"], "--bank TABLE"),
        (
            ["fit", "gpu", "--data", "LATENCIES", "--device", "phone", "--bank", "LATENCIES", "--out", "m.npz"],
            "by --sources",
        ),
        (["predict", "none.npz", CONVOLUTIONS], "cannot read the cost model"),
        (
            ["evaluate", "lookup", "--data", "LATENCIES", "--device", "phone", "--counts", "10,x"],
            "numbers of at least 1",
        ),
        (["evaluate", "lookup", "--data", "LATENCIES", "--device", "phone", "--counts", "600"], "lower the counts"),
        (["measure", "nasbench201", "--out", "rows.csv", "--size", "channels"], "expected NAME=NUMBER"),
        (["measure", "nasbench201", "--out", "rows.csv", "--size", "foo=3"], "known: cells, channels"),
        (["measure", "nasbench201", "--out", "rows.csv", "--size", "classes=100"], "give it by --classes"),
        (["measure", "fbnet", "--out", "rows.csv", "--count", "1"], "no torch networks"),
        (["measure", "nasbench201", "--out", "rows.csv", "--architectures", "none.txt"], "cannot read architectures"),
    ],
)
def test_bad_input_is_one_line_and_2(arguments, message, capsys, latencies, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["cost-model", *(latencies if one == "LATENCIES" else one for one in arguments)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: other work")]
    assert message in " ".join(lines)
    assert "Traceback" not in " ".join(lines)


def test_budget_and_model_come_together(capsys, small_table):
    assert run(["search", "-b", str(small_table), "-s", "random", "--budget", "3", "--max-latency", "5"]) == 2
    assert "come together" in capsys.readouterr().err


def test_compare_under_a_budget(tmp_path, capsys):
    compare = ("compare", "-b", "nasbench201-cifar10", "-s", "random", "-s", "weaknas", "--seeds", "2", "--budget", "8")
    options = ("--jobs", "1", "--out", str(tmp_path), "--max-latency", "11", "--cost-model", "latency_ms")
    assert output(capsys, *compare, *options)["runs_computed"] == 4
    about = json.loads((tmp_path / "summary.json").read_text())["benchmarks"]["nasbench201-cifar10"]
    assert about["latency_budget"]["max_latency_ms"] == 11
    assert about["latency_budget"]["affordable"] == about["rows"] < 15_625
    # The same run by hand.
    search = ("search", "-b", "nasbench201-cifar10", "-s", "weaknas", "--budget", "8", "--seed", "1", *options[-4:])
    found = [query["value"] for query in output(capsys, *search)["queries"]]
    results = pd.read_parquet(tmp_path / "results.parquet")
    assert found == results[(results.strategy == "weaknas") & (results.seed == 1)].value.tolist()
    assert "predicts within 11 ms" in (tmp_path / "report.html").read_text()
    assert run([*compare, "--out", str(tmp_path / "none"), "--max-latency", "11"]) == 2
    assert "come together" in capsys.readouterr().err
