"""Time what the tuner adds to an NNI experiment, and count the wrong pairs in NNI's record beside ours.

Two kinds of real experiments with ``nnictl create``, trials that only look a value up:

1. ``trialConcurrency: 1``. The tuner's time is what its methods took, by a clock around each of them; NNI's dispatch
   time is the time from one trial's first to the next one's, without what the trial's own lines took, which leaves
   starting a process, importing NNI, polling, and telling. Per trial, the median over trials.
2. ``trialConcurrency: 4``, every other trial starting two seconds late, as on machines of different speed. Each trial
   reports the architecture it ran. Counted are results that stand with other parameters, in NNI's export and in
   ``nasplug nni export``.

Bound: the tuner's time below 1 % of NNI's dispatch time.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from nni_runs import Experiment, wrong_pairs

import nasplug
from nasplug.plugins.nni.export import read_experiment
from nasplug.plugins.nni.spaces import search_space
from nasplug.spaces import NASBench201

# Under the experiment's folder: NNI imports it from there.
TIMED = """
import json, time
from pathlib import Path
from nasplug.plugins.nni.tuner import NasTuner

METHODS = ("update_search_space", "generate_multiple_parameters", "receive_trial_result", "trial_end")

def timed(name):
    method = getattr(NasTuner, name)
    def call(self, *arguments, **rest):
        start = time.perf_counter()
        try:
            return method(self, *arguments, **rest)
        finally:
            line = json.dumps([name, time.perf_counter() - start])
            with Path(__file__).with_name("times.jsonl").open("a") as file:
                file.write(line + "\\n")
    return call

Timed = type("Timed", (NasTuner,), {name: timed(name) for name in METHODS})
"""

TRIAL = """
import time
begun = time.time()
import nni
params = nni.get_next_parameter()
start = time.time()
value = sum(map(len, params.values())) / 100
nni.report_final_result({"default": value, "architecture": params, "begun": begun, "own": time.time() - start})
"""

LATE = "sleep $(( NNI_TRIAL_SEQ_ID % 2 * 2 )); "


def run(folder: Path, strategy: str, trials: int, concurrency: int) -> dict[str, Any]:
    """Run one experiment and return its figures."""
    folder.mkdir(parents=True)
    (folder / "timed_tuner.py").write_text(TIMED)
    (folder / "trial.py").write_text(TRIAL)
    config = {
        "searchSpace": search_space(NASBench201()),
        "trialCommand": ("" if concurrency == 1 else LATE) + f"{sys.executable} trial.py",
        "trialConcurrency": concurrency,
        "maxTrialNumber": trials,
        "tuner": {
            "className": "timed_tuner.Timed",
            "codeDirectory": str(folder),
            "classArgs": {"strategy": strategy, "space": "nasbench201", "seed": 0},
        },
    }
    with Experiment(folder, config) as experiment:
        experiment.create()
        experiment.wait("DONE", timeout_s=60 * trials)
        exported = experiment.rest("/export-data")
    # NNI may ask for a trial or two more than it runs.
    ours = [one for one in read_experiment(str(experiment.root)).trials if one["status"] == "ok"]
    calls = [json.loads(line) for line in (folder / "times.jsonl").read_text().splitlines()]
    of = {name: [1e3 * seconds for other, seconds in calls if other == name] for name, _ in calls}
    reports = [json.loads(one["value"]) for one in exported]
    begun = np.sort([report["begun"] for report in reports])
    own = float(np.median([report["own"] for report in reports]))
    tuner_ms = np.array([sum(times[i] for name, times in of.items() if i < len(times)) for i in range(trials)])
    generate = of["generate_multiple_parameters"]
    return {
        "strategy": strategy,
        "concurrency": concurrency,
        "trials": len(ours),
        "dispatch_ms": 1e3 * (float(np.median(np.diff(begun))) - own),
        "tuner_ms": float(np.median(tuner_ms[1:])),  # the first has the search space in it
        "tuner_ms_mean": float(tuner_ms[1:].mean()),
        "propose_ms_max": max(generate),
        "wrong_nni": wrong_pairs(exported, lambda one, other: one == other),
        "wrong_ours": sum(abs(one["value"] - sum(map(len, one["params"].values())) / 100) > 1e-12 for one in ours),
    }


def main() -> None:
    """Run the experiments, print the tables and write ``summary.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", default="random,regularized-evolution,weaknas", help="separated by commas")
    parser.add_argument("--trials", type=int, default=30, help="of each experiment")
    parser.add_argument("--seeds", type=int, default=1, help="accepted for uniformity; NNI's timing is no draw")
    parser.add_argument("--jobs", type=int, default=1, help="accepted for uniformity; timings run alone")
    parser.add_argument("--data", help="accepted for uniformity; no table is used")
    parser.add_argument("--out", type=Path, default=Path("nni_dispatch"))
    parser.add_argument("--quick", action="store_true", help="weaknas alone, five trials")
    options = parser.parse_args()
    strategies = ["weaknas"] if options.quick else options.strategies.split(",")
    trials = 5 if options.quick else options.trials
    with tempfile.TemporaryDirectory() as folder:
        alone = [run(Path(folder) / "alone" / name, name, trials, 1) for name in strategies]
        beside = run(Path(folder) / "beside", strategies[-1], trials, 4)
    print(f"{trials} trials one at a time: milliseconds a trial, median")
    print(
        f"{'strategy':<24}{'NNI dispatch':>14}{'tuner':>9}{'tuner/NNI':>11}{'tuner, mean':>13}{'longest proposal':>18}"
    )
    for row in alone:
        share = row["tuner_ms"] / row["dispatch_ms"]
        print(
            f"{row['strategy']:<24}{row['dispatch_ms']:>14.0f}{row['tuner_ms']:>9.2f}{share:>11.3%}"
            f"{row['tuner_ms_mean']:>13.2f}{row['propose_ms_max']:>18.1f}"
        )
    print(f"\n{trials} trials four at a time: results that stand with other parameters than the trial ran")
    print(f"NNI's export {beside['wrong_nni']}, nasplug nni export {beside['wrong_ours']} of {beside['trials']}\n")
    options.out.mkdir(parents=True, exist_ok=True)
    about = {"nasplug": nasplug.__version__, "nni": "3.0", "numpy": np.__version__, "python": platform.python_version()}
    summary = {"rows": [*alone, beside], "versions": about, "machine": platform.machine()}
    (options.out / "summary.json").write_text(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
