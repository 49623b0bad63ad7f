"""Your own parameters, written where they are used; some exist only in some trials."""

import optuna

from nasplug.plugins.optuna import NasSampler

optuna.logging.set_verbosity(optuna.logging.WARNING)


def objective(trial: optuna.Trial) -> float:
    depth = trial.suggest_int("depth", 2, 12)
    block = trial.suggest_categorical("block", ["conv", "attention"])
    rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    score = 0.85
    if block == "attention":  # conditional: drawn at random, the three above by the strategy
        heads = trial.suggest_categorical("heads", [1, 2, 4, 8])
        score = 0.9 - abs(heads - 4) / 20
    return score - abs(depth - 8) / 50 - abs(rate - 0.01)  # stands for training a network


study = optuna.create_study(direction="maximize", sampler=NasSampler("weaknas", seed=0))
study.optimize(objective, n_trials=40)
print(f"best of {len(study.trials)} trials: {study.best_value:.3f} with {study.best_params}")
