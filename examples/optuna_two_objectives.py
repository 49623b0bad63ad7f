"""Accuracy against latency: the cells that no other cell beats in both."""

import optuna

from nasplug.plugins.optuna import NasSampler
from nasplug.plugins.optuna.problem import TableProblem

optuna.logging.set_verbosity(optuna.logging.WARNING)
problem = TableProblem("nasbench201-cifar10", ["valid", "latency_ms"])
study = optuna.create_study(directions=problem.directions, sampler=NasSampler("weaknas", space="nasbench201", seed=0))
study.optimize(problem, n_trials=40)
for trial in sorted(study.best_trials, key=lambda trial: trial.values[1]):
    accuracy, latency_ms = trial.values
    print(f"{accuracy:.4f} at {latency_ms:5.1f} ms")

# The picture, and the area between the best trials and 85 % at 16 ms as it grew.
names = ["accuracy", "latency, ms"]
optuna.visualization.plot_pareto_front(study, target_names=names).write_html(
    "pareto.html", include_plotlyjs="directory"
)
growth = optuna.visualization.plot_hypervolume_history(study, reference_point=[0.85, 16.0]).data[0].y
print(f"hypervolume {growth[9]:.4f} after 10 trials, {growth[-1]:.4f} after {len(growth)}: see pareto.html")
