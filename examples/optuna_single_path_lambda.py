"""Single-Path NAS under a price: an Optuna study finds the price at which the search ends at a wanted size.

This is the outer loop of arXiv:1907.00959. ``single-path:target=...`` needs no such loop: it moves lambda during one
search. Here, on a few epochs of the digits, both are shown; costs are millions of multiply-adds.
"""

import math

import optuna

from nasplug.spaces import NASBenchMacro
from nasplug.strategies.supernet.single_path import SinglePathNAS

TARGET = 0.1
space = NASBenchMacro()
quick = {"space": space, "epochs": 3, "warm_up": 0.34, "threshold_rate": 0.1, "batch_size": 128, "folder": "runs"}


def cost(strategy):
    run = strategy.run(seed=0)
    return run.selection(run.stages - 1).facts["selected_cost"]


def distance(trial):
    reached = cost(SinglePathNAS(**quick, trade_off=trial.suggest_float("lambda", 0.01, 100.0, log=True)))
    trial.set_user_attr("cost", reached)
    return abs(math.log(reached / TARGET))


study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
study.enqueue_trial({"lambda": 1.0})
study.optimize(distance, n_trials=4, catch=ValueError)  # a price that leaves no layer is told as an InputError
best = study.best_trial
print(f"outer loop: lambda {best.params['lambda']:.3g} ends at {best.user_attrs['cost']:.3f} after 4 searches")
print(f"one search with a target of {TARGET}: {cost(SinglePathNAS(**quick, target=TARGET)):.3f}")
