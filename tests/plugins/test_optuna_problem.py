"""Tables as OptunaHub problems, and the two OptunaHub packages as their registry would load them."""

import builtins
import importlib
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from numpy.typing import NDArray

from nasplug.benchmarks.base import Benchmark, Signal
from nasplug.errors import InputError, MissingDependencyError, UnknownNameError
from nasplug.plugins.optuna import NasSampler
from nasplug.plugins.optuna import problem as problem_module
from nasplug.plugins.optuna.problem import TableProblem
from nasplug.spaces import Categorical, Genotypes, Integer, ParameterSpace

optunahub = pytest.importorskip("optunahub")

REGISTRY = Path(__file__).parents[2] / "plugins" / "optunahub" / "package"
PACKAGES = ["samplers/nasplug", "benchmarks/nasplug_tables"]


class Tiny(Benchmark):
    """Fifteen architectures; accuracy is 0.1 a code, latency 1 ms a code of the width."""

    name = "tiny"
    space = ParameterSpace([Categorical("op", ("a", "b", "c")), Integer("width", 1, 5)])
    search = Signal("valid")
    report = Signal("valid")

    def query(
        self, genotypes: Genotypes, metric: str, *, epochs: int | None = None, seed: int | None = None
    ) -> NDArray[np.float64]:
        if metric not in ("valid", "latency_ms"):
            raise UnknownNameError("metric", metric, ["valid", "latency_ms"])
        return genotypes.sum(axis=1) / 10 if metric == "valid" else genotypes[:, 1].astype(float)

    def n_seeds(self, metric: str, epochs: int | None = None) -> int:
        return 1

    def provenance(self) -> dict[str, Any]:
        return {}


def test_one_objective_is_the_search_signal() -> None:
    problem = TableProblem(Tiny())
    study = optuna.create_study(directions=problem.directions, sampler=NasSampler("random", space=Tiny.space, seed=0))
    study.optimize(problem, n_trials=15)
    assert study.direction.name == "MAXIMIZE"
    assert study.best_trial.params == {"op": "c", "width": 5}
    assert study.best_value == pytest.approx(0.6)


def test_two_objectives_have_their_directions() -> None:
    problem = TableProblem(Tiny(), ["valid", "latency_ms"], compact=True)
    assert [d.name for d in problem.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert problem.evaluate({"architecture": 14}) == (0.6, 4.0)
    assert list(problem.search_space) == ["architecture"]


def test_trials_are_told_what_people_look_for(small_table: Path) -> None:
    by_default = {"architecture", "test@200", "train_s"}
    for attributes, names in ((None, by_default), (["test@200"], {"architecture", "test@200"}), ([], set())):
        problem = TableProblem(str(small_table), compact=True, attributes=attributes)
        study = optuna.create_study(directions=problem.directions, sampler=NasSampler("random", seed=0))
        study.optimize(problem, n_trials=3)
        for trial in study.trials:
            assert set(trial.user_attrs) == names
            if names:
                genotype = problem.benchmark.space.from_string([trial.user_attrs["architecture"]])
                assert trial.user_attrs["test@200"] == problem.benchmark.labels(genotype, problem.benchmark.report)[0]


def test_an_architecture_that_a_part_of_a_table_lacks_is_a_failed_trial(partial_table: Path) -> None:
    problem = TableProblem(str(partial_table))
    study = optuna.create_study(directions=problem.directions, sampler=NasSampler("random", seed=0))
    study.optimize(problem, n_trials=20)
    states = [trial.state.name for trial in study.trials]
    assert 0 < states.count("COMPLETE") < 15
    assert states.count("COMPLETE") + states.count("FAIL") == 20


def test_only_a_table_is_asked_more_than_the_study_needs() -> None:
    problem = TableProblem(Tiny())
    study = optuna.create_study(directions=problem.directions, sampler=NasSampler("random", seed=0))
    study.optimize(problem, n_trials=1)
    assert list(study.trials[0].user_attrs) == ["architecture"]


def test_limits_become_constraints() -> None:
    problem = TableProblem(Tiny(), limits={"latency_ms": 2.0})
    assert problem.evaluate_constraints({"op": "a", "width": 5}) == {"latency_ms": 2.0}
    if hasattr(optuna.Trial, "set_constraint"):
        study = optuna.create_study(
            directions=problem.directions, sampler=NasSampler("random", space=Tiny.space, seed=0)
        )
        study.optimize(problem, n_trials=15)
        assert study.best_trial.params == {"op": "c", "width": 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nasbench201-cifar1",), "did you mean"),
        ((Tiny(), "valid@@"), "expected METRIC"),
        ((Tiny(), "speed"), "unknown metric"),
    ],
)
def test_bad_arguments(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TableProblem(*arguments).evaluate({"op": "a", "width": 1})


def test_a_built_in_table_by_name() -> None:
    problem = TableProblem("nasbench201-cifar10")
    value = problem.evaluate(dict.fromkeys(problem.search_space, "nor_conv_3x3"))
    assert isinstance(value, float)
    assert 0.85 < value < 0.95


def test_a_table_of_ones_own_and_directions_by_metric(small_table: Path) -> None:
    problem = TableProblem(str(small_table), ["valid@12", "train_s@12"])
    assert [d.name for d in problem.directions] == ["MAXIMIZE", "MINIMIZE"]
    accuracy, seconds = problem.evaluate(dict.fromkeys(problem.search_space, "none"))
    assert 0 < accuracy < 1
    assert seconds == 10.0
    metrics = ["test_loss", "test_analog_uncertainty", "train", "roc_auc"]
    assert [d.name for d in TableProblem(Tiny(), metrics).directions] == ["MINIMIZE"] * 2 + ["MAXIMIZE"] * 2


def test_without_optunahub_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("optunahub"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without)
        with pytest.raises(MissingDependencyError, match=r"nasplug\[optuna\]"):
            importlib.reload(problem_module)
    importlib.reload(problem_module)


# -- the packages for OptunaHub --------------------------------------------------------------------------------------


def test_the_sampler_package_loads_and_samples() -> None:
    module = optunahub.load_local_module("samplers/nasplug", registry_root=str(REGISTRY))
    study = optuna.create_study(sampler=module.NasSampler("random", seed=0))
    study.optimize(lambda trial: trial.suggest_int("x", 1, 5), n_trials=5)
    assert {trial.params["x"] for trial in study.trials} == {1, 2, 3, 4, 5}


def test_its_sampler_unpickles_where_the_package_was_never_loaded() -> None:
    module = optunahub.load_local_module("samplers/nasplug", registry_root=str(REGISTRY))
    text = pickle.dumps(module.NasSampler("random", seed=0)).hex()
    code = f"import pickle; print(type(pickle.loads(bytes.fromhex({text!r}))).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "NasSampler\n"


def test_the_benchmark_package_loads_and_evaluates() -> None:
    module = optunahub.load_local_module("benchmarks/nasplug_tables", registry_root=str(REGISTRY))
    problem = module.TableProblem(Tiny())
    study = optuna.create_study(directions=problem.directions, sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(problem, n_trials=3)
    assert len(study.trials) == 3


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_have_what_the_registry_asks_for(package: str) -> None:
    folder = REGISTRY / package
    readme = (folder / "README.md").read_text()
    front = yaml.safe_load(readme.split("---")[1])
    assert {"author", "title", "description", "tags", "optuna_versions", "license"} <= front.keys()
    assert package.split("/")[0].removesuffix("s") in front["tags"]
    assert front["license"] == "MIT License"
    assert re.findall(r"^## (.+)$", readme, re.M) == ["Abstract", "APIs", "Installation", "Example", "Others"]
    assert "MIT License" in (folder / "LICENSE").read_text()
    assert (folder / "example.py").exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_their_examples_run_from_the_local_copy(package: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = (REGISTRY / package / "example.py").read_text()
    code = code.replace("load_module(", f"load_local_module(registry_root={str(REGISTRY)!r}, package=")
    before = optuna.logging.get_verbosity()
    exec(compile(code, package, "exec"), {})
    optuna.logging.set_verbosity(before)
    assert capsys.readouterr().out
