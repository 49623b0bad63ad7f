"""``nasplug nni``: registering, search spaces, exporting; and what is said where NNI is missing."""

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nasplug import registry
from nasplug.errors import DataError, InputError, MissingDependencyError
from nasplug.plugins.cli.app import run
from nasplug.plugins.nni import register as registering
from nasplug.plugins.nni.export import read_experiment
from nasplug.plugins.nni.ledger import FILE, Ledger
from nasplug.plugins.nni.spaces import search_space
from nasplug.spaces import NASBench201
from nasplug.strategies import Status

NAMES = {
    "LocalSearch": "local-search",
    "RandomSearch": "random",
    "RegularizedEvolution": "regularized-evolution",
    "WeakNAS": "weaknas",
    "WeakNASPaper": "weaknas-paper",
}


def needs_nni() -> None:
    pytest.importorskip("nni", reason="NNI is not installed: pip install 'nasplug[nni]'")


@pytest.fixture
def nni_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """NNI's own configuration, away from the one of whoever runs the tests."""
    needs_nni()
    monkeypatch.setenv("NNI_CONFIG_DIR", str(tmp_path / "nni"))
    return tmp_path / "nni" / "registered_algorithms.yml"


# -- names -----------------------------------------------------------------------------------------------------------


def test_every_strategy_of_ours_has_a_name_and_peers_have_none() -> None:
    assert registering.tuner_names().items() >= NAMES.items()
    assert not {"optuna", "nni"} & set(registering.tuner_names().values())


def test_a_strategy_that_cannot_be_loaded_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    load = registry.load

    def missing(role: Any, name: str) -> Any:
        if name == "weaknas":
            raise MissingDependencyError("needs a package")
        return load(role, name)

    monkeypatch.setattr(registry, "load", missing)
    assert "WeakNAS" not in registering.tuner_names()


def test_registered_tuners_are_made_by_name_and_taken_away_again(
    nni_list: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from nni.tools.package_utils import create_builtin_class_instance

    assert run(["nni", "register"]) == 0
    assert "registered WeakNAS (weaknas)\n" in capsys.readouterr().out
    made = create_builtin_class_instance("WeakNAS", {"space": "nasbench201", "seed": 4}, "tuners")
    assert (made._spec.name, made._space_name, made._seed) == ("weaknas", "nasbench201", 4)
    with pytest.raises(InputError, match="unknown entry of classArgs"):
        create_builtin_class_instance("WeakNAS", {"sed": 4}, "tuners")

    assert run(["nni", "unregister", "weaknas", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"unregistered": {"WeakNAS": "weaknas"}}
    assert run(["nni", "unregister"]) == 0
    assert "unregistered RandomSearch (random)\n" in capsys.readouterr().out
    assert run(["nni", "unregister"]) == 0
    assert capsys.readouterr().out == "nothing unregistered\n"
    assert "NasTuner" not in nni_list.read_text()


def test_names_of_others_are_not_taken(nni_list: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nni_list.parent.mkdir()
    nni_list.write_text("tuners: [{builtinName: WeakNAS, className: other.Tuner, source: user}]")
    with pytest.raises(InputError, match=r"NNI knows 'WeakNAS' as other\.Tuner already"):
        registering.register(["weaknas"])
    assert registering.unregister(["weaknas"]) == {}
    with pytest.raises(InputError, match="unknown strategy for NNI 'weaknaz'; did you mean weaknas"):
        registering.register(["weaknaz"])


@pytest.mark.parametrize(("code", "message"), [(1, "ended with 1: went wrong"), (0, "did not register WeakNAS")])
def test_what_nnictl_refuses_is_said(nni_list: Path, monkeypatch: pytest.MonkeyPatch, code: int, message: str) -> None:
    done = subprocess.CompletedProcess([], code, "went ", "wrong")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(InputError, match=message):
        registering.register(["weaknas"])


@pytest.mark.parametrize(
    ("package", "remedy"), [("nni", "pip install 'nasplug[nni]'"), ("pkg_resources", "pip install 'setuptools<81'")]
)
def test_what_is_missing_is_named(
    package: str, remedy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    everything = {"nni": object(), "pkg_resources": object(), package: None}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: everything.get(name, find))
    for command in ("register", "unregister"):
        assert run(["nni", command]) == 2
        assert remedy in capsys.readouterr().err


_WITHOUT = """
import sys
sys.modules["nni"] = None
import nasplug.plugins.nni
from nasplug.plugins.cli.app import run
assert run(["nni", "search-space", "nasbench201"]) == 0
assert run(["nni", "--help"]) == 0
try:
    nasplug.plugins.nni.NasTuner
except ImportError as error:
    print(error)
assert not hasattr(nasplug.plugins.nni, "nothing")
"""


def test_without_nni_all_but_the_tuner_works() -> None:
    done = subprocess.run([sys.executable, "-c", _WITHOUT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("NNI's plugin needs the package 'nni'; pip install 'nasplug[nni]'\n")


def test_the_command_line_does_not_import_nni() -> None:
    code = "import sys, nasplug.plugins.cli.app, nasplug.plugins.nni; print([m for m in sys.modules if m == 'nni'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_search_space_is_printed_or_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["nni", "search-space", "nasbench201"]) == 0
    assert json.loads(capsys.readouterr().out) == search_space(NASBench201())
    assert run(["nni", "search-space", "nasbench201", "--out", str(tmp_path / "space.json")]) == 0
    assert json.loads((tmp_path / "space.json").read_text()) == search_space(NASBench201())
    assert run(["nni", "search-space", "nasbench2"]) == 2
    assert "did you mean nasbench201" in capsys.readouterr().err


# -- export ----------------------------------------------------------------------------------------------------------

CELLS = NASBench201()
ROWS = CELLS.all()[[5, 600, 7000, 42]]
TEXTS = CELLS.to_string(ROWS)


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """The folder of an experiment of four trials: finished, pruned, failed, running; and an imported result."""
    folder = tmp_path / "experiments" / "abc123"
    (folder / "checkpoint").mkdir(parents=True)
    ledger = Ledger(folder / "checkpoint" / FILE)
    ledger.start({"strategy": "weaknas", "space": "nasbench201", "optimize_mode": "maximize", "seed": 3})
    entries = ledger.ask(CELLS.to_params(ROWS), [0, 1, 2, 3], "strategy")
    ledger.end(entries[0], Status.OK, 0.5, job="a")
    ledger.end(entries[1], Status.PRUNED, 0.9, job="b", note="EARLY_STOPPED")
    ledger.end(entries[2], Status.FAILED)
    ledger.add(CELLS.to_params(CELLS.all()[:1])[0], 0.25, "imported")
    return folder


def test_the_export_is_what_the_tuner_recorded(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["nni", "export", str(experiment), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [trial["architecture"] for trial in found["trials"][:4]] == TEXTS
    assert [trial["status"] for trial in found["trials"]] == ["ok", "pruned", "failed", "running", "ok"]
    assert [trial["number"] for trial in found["trials"]] == [0, 1, 2, 3, None]
    assert found["trials"][1]["params"] == CELLS.to_params(ROWS)[1]
    assert found["best"]["job"] == "a"
    assert (found["strategy"], found["seed"]) == ("weaknas", 3)
    assert run(["nni", "export", str(experiment)]) == 0
    said = capsys.readouterr().out
    assert f"best: 0.5  {TEXTS[0]}" in said
    assert "pruned" in said


def test_files_are_csv_or_json(experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, trials in (("out.csv", 2), ("out.json", 5)):
        assert run(["nni", "export", str(experiment), "--out", str(tmp_path / name)]) == 0
        assert f"{trials} trials in" in capsys.readouterr().out
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["architecture"] == TEXTS[0]
    assert [row["value"] for row in rows] == ["0.5", "0.25"]
    given = ["--space", "nasbench201", "--metric", "value=valid", "--search", "valid", "--report", "valid"]
    assert run(["data", "add", str(tmp_path / "out.csv"), *given, "--partial", "--name", "trials"]) == 0
    assert "2 of the 15625 architectures" in " ".join(capsys.readouterr().out.split())
    assert json.loads((tmp_path / "out.json").read_text())["trials"][0]["value"] == 0.5
    assert run(["nni", "export", str(experiment), "--out", str(tmp_path / "out.txt")]) == 2
    assert "ending in .csv or .json, got '.txt'" in capsys.readouterr().err


def test_an_experiment_is_found_by_id_folder_or_file(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read_experiment(str(experiment))
    assert read_experiment(str(experiment / "checkpoint" / FILE)) == expected
    assert read_experiment(str(experiment / "checkpoint")) == expected
    home = tmp_path / "nni-experiments"
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataError, match="no experiment 'abc123' in"):
        read_experiment("abc123")
    home.mkdir()
    (home / ".experiment").write_text(json.dumps({"abc123": {"logDir": str(experiment.parent)}}))
    assert read_experiment("abc123") == expected
    (home / ".experiment").write_text("[]")
    experiment.rename(home / "abc123")
    assert read_experiment("abc123") == expected


def test_own_parameters_are_json_and_smaller_may_be_better(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / FILE)
    ledger.start({"strategy": "weaknas", "space": None, "optimize_mode": "minimize", "seed": 3})
    for entry, value in zip(ledger.ask([{"a": 1}, {"a": {"_name": "b"}}], [0, 1], "strategy"), (2.0, 1.0), strict=True):
        ledger.end(entry, Status.OK, value)
    found = read_experiment(str(tmp_path))
    assert found.best is not None
    assert found.best["architecture"] == '{"a":{"_name":"b"}}'


def test_a_space_that_no_longer_fits_leaves_the_parameters(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / FILE)
    ledger.start({"strategy": "weaknas", "space": "nasbench201", "optimize_mode": "maximize", "seed": 3})
    ledger.ask([{"a": 1}], [0], "strategy")
    found = read_experiment(str(tmp_path))
    assert found.best is None
    assert found.trials[0]["architecture"] == '{"a":1}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "only experiments that ran a tuner of nasplug have one"),
        ("{}\n", "is not a history that a tuner of nasplug wrote"),
        ('{"event": "start", "format": 1}\n', "does not say what its tuner was"),
    ],
)
def test_what_is_no_history_is_refused(
    content: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / FILE).write_text(content)
    assert run(["nni", "export", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
