"""Ten lines: a nasplug strategy instead of TPESampler, on NAS-Bench-201."""

import optuna

from nasplug.plugins.optuna import NasSampler
from nasplug.plugins.optuna.problem import TableProblem

optuna.logging.set_verbosity(optuna.logging.WARNING)
objective = TableProblem("nasbench201-cifar10")
study = optuna.create_study(direction="maximize", sampler=NasSampler("weaknas", space="nasbench201", seed=0))
study.optimize(objective, n_trials=60)
print(f"best validation accuracy after 60 trials: {study.best_value:.4f}")
print(study.best_params)
