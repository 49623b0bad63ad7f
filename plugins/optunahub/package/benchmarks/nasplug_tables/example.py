"""Random search on the 15,625 cells of NAS-Bench-201, CIFAR-10."""

import optuna
import optunahub

module = optunahub.load_module("benchmarks/nasplug_tables")
problem = module.TableProblem("nasbench201-cifar10")
study = optuna.create_study(directions=problem.directions, sampler=optuna.samplers.RandomSampler(seed=0))
study.optimize(problem, n_trials=50)
print(study.best_value)
