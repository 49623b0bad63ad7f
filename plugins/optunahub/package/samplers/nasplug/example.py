"""Search the cells of NAS-Bench-201 for a toy score."""

import optuna
import optunahub

module = optunahub.load_module("samplers/nasplug")


def objective(trial: optuna.Trial) -> float:
    """Count 3x3 convolutions."""
    operations = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
    edges = ["edge_0_1", "edge_0_2", "edge_1_2", "edge_0_3", "edge_1_3", "edge_2_3"]
    return sum(trial.suggest_categorical(edge, operations) == "nor_conv_3x3" for edge in edges)


study = optuna.create_study(direction="maximize", sampler=module.NasSampler(space="nasbench201", seed=0))
study.optimize(objective, n_trials=50)
print(study.best_trial.params)
