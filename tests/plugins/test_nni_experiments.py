"""Real experiments: nnictl create, NNI's REST interface and web page, and nothing left behind.

Slow, since NNI starts a process a trial; ``-m "not nni"`` leaves them out.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("nni", reason="NNI is not installed: pip install 'nasplug[nni]'")

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks" / "reproduce"))
from nni_runs import Experiment, wrong_pairs  # type: ignore  # noqa: E402
from webpages import photograph  # type: ignore  # noqa: E402

from nasplug import registry  # noqa: E402
from nasplug.benchmarks import open_benchmark  # noqa: E402
from nasplug.benchmarks.search import search  # noqa: E402
from nasplug.cost_models.few_shot import FewShot  # noqa: E402
from nasplug.plugins.nni import NasTuner  # noqa: E402
from nasplug.plugins.nni.export import read_experiment  # noqa: E402
from nasplug.plugins.nni.register import tuner_names  # noqa: E402
from nasplug.plugins.nni.spaces import search_space  # noqa: E402

EXAMPLES = sorted((ROOT / "examples" / "nni").glob("*.yml"))
WITHOUT_EXAMPLE: dict[str, str] = {
    **dict.fromkeys(("darts", "darts-pt-fixed-alpha", "spos"), "as darts-pt, with that name in its place"),
}
"""Strategy -> why it has no experiment of its own."""

pytestmark = [pytest.mark.nni, pytest.mark.timeout(600)]


def config(script: str, folder: Path, configurations: Any, *, command: str = "", **tuner: Any) -> dict[str, Any]:
    """An experiment whose trial is a Python script that knows ``nni`` and ``params``."""
    (folder / "trial.py").write_text(f"import os, sys, time, nni\nparams = nni.get_next_parameter()\n{script}\n")
    return {
        "searchSpace": configurations,
        "trialCommand": f"{command}{sys.executable} trial.py",
        "tuner": {"className": "nasplug.plugins.nni.NasTuner", "codeDirectory": str(folder), "classArgs": tuner},
    }


# -- right at any concurrency, killed and resumed --------------------------------------------------------------------

WORTH = "nni.report_final_result({'default': sum(map(len, params.values())) / 100, 'architecture': params})"


def worth(params: dict[str, str]) -> float:
    return sum(map(len, params.values())) / 100


def wrong_in(export: Any) -> int:
    return sum(one["status"] == "ok" and one["value"] != worth(one["params"]) for one in export.trials)


def same(one: dict[str, str], other: dict[str, str]) -> bool:
    return one == other


def test_four_at_a_time_killed_and_resumed_every_pair_is_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every other trial starts late, so that trials overtake each other, which NNI 3.0 does not survive."""
    space = registry.configure("space", "nasbench201")
    made = config(
        WORTH,
        tmp_path,
        search_space(space),
        command="sleep $(( (NNI_TRIAL_SEQ_ID + 1) % 2 * 3 )); ",
        strategy="regularized-evolution",
        space="nasbench201",
        seed=0,
    )
    with Experiment(tmp_path, made, trialConcurrency=4, maxTrialNumber=12) as experiment:
        experiment.create()
        experiment.wait_for(jobs=6)
        nni_before = wrong_pairs(experiment.rest("/export-data"), same)
        experiment.kill()
        before = read_experiment(str(experiment.root))
        experiment.resume()
        assert experiment.wait("DONE") == "DONE"
        nni_after = wrong_pairs(experiment.rest("/export-data"), same)
        after = read_experiment(str(experiment.root))
        log = experiment.log()
    finished = sum(one["status"] == "ok" for one in before.trials)
    with capsys.disabled():
        print(f"\nwrong pairs at concurrency 4, NNI's export: {nni_before}, after a resume {nni_after} of 12;", end=" ")
        print(f"ours: {wrong_in(before)} of {finished}, after a resume {wrong_in(after)}")
    assert finished >= 6
    assert min(nni_before, nni_after) > 0
    assert wrong_in(before) == wrong_in(after) == 0
    assert after.trials[: len(before.trials)] == [
        {**one, **{key: now[key] for key in ("status", "value", "job", "note")}} if one["status"] == "running" else one
        for one, now in zip(before.trials, after.trials, strict=False)
    ]
    assert [one["number"] for one in after.trials] == list(range(len(after.trials)))
    assert len({one["architecture"] for one in after.trials}) == len(after.trials)
    assert f"resumed with {finished} results" in log
    assert "Traceback" not in log


# -- one sequence everywhere, by name, in the browser ----------------------------------------------------------------


def test_registered_by_name_the_sequence_is_that_of_search_and_optuna(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna", reason="Optuna is not installed: pip install 'nasplug[optuna]'")
    from nasplug.plugins.optuna import NasSampler
    from nasplug.plugins.optuna.problem import TableProblem

    trials, name = 6, "nasbench201-cifar10"
    benchmark = open_benchmark(name)
    strategy = registry.configure("strategy", "weaknas:initial=3", benchmark.space)
    steps = [step.observation for step in search(strategy, benchmark, benchmark.search, budget=trials, seed=0)]
    searched = [(benchmark.space.to_params(benchmark.space.check([s.genotype]))[0], s.value) for s in steps]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize", sampler=NasSampler("weaknas:initial=3", space="nasbench201", seed=0)
    )
    study.optimize(TableProblem(name), n_trials=trials)

    example = yaml.safe_load((ROOT / "examples/nni/weaknas_by_name.yml").read_text())
    tuner = {**example["tuner"], "classArgs": {**example["tuner"]["classArgs"], "options": {"initial": 3}}}
    path = ROOT / "examples/nni/weaknas_by_name.yml"
    with Experiment(tmp_path, path, tuner=tuner, maxTrialNumber=trials) as experiment:
        assert experiment.nasplug("nni", "register", "weaknas").returncode == 0
        experiment.create()
        experiment.wait_for(jobs=1)
        if shutil.which("chromium") and shutil.which("chromedriver"):
            pytest.importorskip("selenium")
            text = photograph(experiment.url + "/oview", tmp_path / "nni.png", until=experiment.id)
            assert "WeakNAS by name" in text
            assert "RUNNING" in text
            assert (tmp_path / "nni.png").stat().st_size > 20_000
        experiment.wait("DONE")
        jobs = sorted(experiment.rest("/trial-jobs"), key=lambda job: job["sequenceId"])
    recorded = [json.loads(job["hyperParameters"][0])["parameters"] for job in jobs]
    values = [json.loads(json.loads(job["finalMetricData"][0]["data"]))["default"] for job in jobs]
    assert list(zip(recorded, values, strict=True)) == searched
    assert [(trial.params, trial.value) for trial in study.trials] == searched
    exported = read_experiment(str(experiment.root))
    assert [(one["params"], one["value"]) for one in exported.trials] == searched


# -- what ends an experiment -----------------------------------------------------------------------------------------

KINDS = ("ok", "crash", "text", "nothing", "late")
ODD = """
kind = params["kind"]
if kind == "crash": sys.exit(1)
if kind == "late":
    nni.report_intermediate_result({"default": 0.25})
    time.sleep(100)
if kind == "text": nni.report_final_result("very good")
if kind == "ok": nni.report_final_result(0.5)
"""


def test_trials_that_fail_in_every_way_and_an_exhausted_space_end_as_done(tmp_path: Path) -> None:
    space = {"kind": {"_type": "choice", "_value": list(KINDS)}}
    made = config(ODD, tmp_path, space, strategy="random", seed=0)
    limits = {"trialConcurrency": 2, "maxTrialNumber": 50, "maxTrialDuration": "20s"}
    with Experiment(tmp_path, made, **limits) as experiment:
        experiment.create()
        experiment.wait("DONE")
        jobs = experiment.rest("/trial-jobs")
        log = experiment.log()
    assert len(jobs) == 5
    trials = read_experiment(str(experiment.root)).trials
    found = {one["params"]["kind"]: (one["status"], one["value"]) for one in trials}
    lost = ("failed", None)
    assert found == {"ok": ("ok", 0.5), "text": lost, "crash": lost, "nothing": lost, "late": ("pruned", 0.25)}
    assert "expected a finite number or a dict with one under 'default', the trial reported 'very good'" in log
    assert "Traceback" not in log


def test_bad_arguments_and_a_bad_search_space_end_with_error_and_say_why(tmp_path: Path) -> None:
    made = config("", tmp_path, {"a": {"_type": "choice", "_value": [1, 2]}}, strategy="weakna")
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    other = {**made, "tuner": {**made["tuner"], "classArgs": {"space": "nasbench201"}}}
    with (
        Experiment(tmp_path / "one", made, trialConcurrency=1) as one,
        Experiment(tmp_path / "two", other, trialConcurrency=1) as two,
    ):
        one.create()
        two.create()
        with pytest.raises(RuntimeError, match=f"Port {one.port} is not idle"):
            Experiment(tmp_path / "three", made, trialConcurrency=1).create(port=one.port)
        one.wait("ERROR")
        two.wait("ERROR")
        assert "unknown strategy 'weakna'; did you mean weaknas" in one.log() + one.log("nnictl_stderr.log")
        for log in (two.log(), two.log("nnimanager.log")):
            assert "the search space lacks 'edge_0_1'" in log
        assert two.rest("/trial-jobs") == []


# -- the examples ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_accepted_by_nni_and_by_the_tuner(path: Path, tmp_path: Path) -> None:
    from nni.experiment.config import ExperimentConfig

    loaded = ExperimentConfig.load(path)
    loaded.validate()
    content = yaml.safe_load(path.read_text())
    space = content.get("searchSpace") or json.loads((path.parent / content["searchSpaceFile"]).read_text())
    arguments = content["tuner"]["classArgs"]
    if "name" in content["tuner"]:
        arguments = {"strategy": tuner_names()[content["tuner"]["name"]], **arguments}
    if "cost_model" in arguments:  # made by the command in the example's head
        table, model = open_benchmark("nasbench201-cifar10"), str(tmp_path / "latency.npz")
        some = table.space.sample_distinct(20, np.random.default_rng(0))
        FewShot(space=table.space).fit(some, table.query(some, "latency_ms")).save(Path(model))
        arguments = {**arguments, "cost_model": model}
    tuner = NasTuner(**arguments)
    tuner.update_search_space(space)
    assert len(tuner.generate_multiple_parameters([0, 1])) == 2
    words = content["trialCommand"].split()
    if "--benchmark" in words:
        if "trained" in content["trialCommand"]:
            pytest.importorskip("torch", reason="training needs torch: pip install 'nasplug[torch]'")
        benchmark = open_benchmark(words[words.index("--benchmark") + 1])
        assert search_space(benchmark.space) == space
    else:
        assert (path.parent / words[-1]).is_file()


def test_every_strategy_has_an_example() -> None:
    shown = {yaml.safe_load(path.read_text())["tuner"]["classArgs"].get("strategy") for path in EXAMPLES}
    assert set(tuner_names().values()) <= shown | WITHOUT_EXAMPLE.keys()


def test_the_training_trial_runs_alone(tmp_path: Path) -> None:
    path = ROOT / "examples/nni/train_digits.py"
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) > 0.7
