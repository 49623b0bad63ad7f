"""Pruning: a nasplug strategy proposes, an Optuna pruner stops trainings, here over the learning curves of a table."""

import sys

import optuna

from nasplug.benchmarks import open_benchmark
from nasplug.plugins.optuna import NasSampler
from nasplug.plugins.optuna.problem import TableProblem

optuna.logging.set_verbosity(optuna.logging.WARNING)
benchmark = open_benchmark(sys.argv[1] if len(sys.argv) > 1 else "digits201")
lengths = benchmark.fidelities("valid")
after = {epochs: TableProblem(benchmark, f"valid@{epochs}:one") for epochs in lengths}


def objective(trial: optuna.Trial) -> float:
    for epochs in lengths:
        accuracy = after[epochs](trial)  # your own training goes on for an epoch here
        trial.report(accuracy, step=epochs)
        if trial.should_prune():
            raise optuna.TrialPruned
    return accuracy


study = optuna.create_study(
    study_name="pruning",  # by which Hyperband assigns trials to brackets
    direction="maximize",
    sampler=NasSampler("weaknas", space=benchmark.space.name, seed=0),
    pruner=optuna.pruners.HyperbandPruner(min_resource=lengths[0], max_resource=lengths[-1]),
)
study.optimize(objective, n_trials=60)
trained = sum(trial.last_step for trial in study.trials)
stopped = sum(trial.state == optuna.trial.TrialState.PRUNED for trial in study.trials)
print(f"best validation accuracy after {trained} epochs of {len(study.trials)} trainings: {study.best_value:.4f}")
print(f"{stopped} were stopped early; all to the end would have been {len(study.trials) * lengths[-1]} epochs")
