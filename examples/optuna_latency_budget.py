"""Ten measured networks, a latency model, and a search under a budget; a constraint; the trade-off as two objectives.

The latencies here are a table's, so that the example runs anywhere; in your study they come from
``nasplug cost-model measure`` on your own device.
"""

import numpy as np
import optuna

from nasplug.benchmarks import open_benchmark
from nasplug.cost_models.constraint import affordable
from nasplug.cost_models.few_shot import FewShot
from nasplug.plugins.optuna import NasSampler
from nasplug.spaces import NASBench201

space = NASBench201()
table = open_benchmark("nasbench201-cifar10")
measured = space.sample_distinct(10, np.random.default_rng(0))
model = FewShot(space=space).fit(measured, table.query(measured, "latency_ms"), device="the table's")


def architecture(trial):
    params = {p.name: trial.suggest_categorical(p.name, list(p.choices)) for p in space.parameters}
    return space.from_params([params])


def accuracy(trial):
    return float(table.query(architecture(trial), "valid", seed=0)[0])


# A budget: nothing that is predicted to take longer is ever tried.
within = affordable(space, model, 14.0)
study = optuna.create_study(direction="maximize", sampler=NasSampler("weaknas", space=within, seed=0))
study.optimize(accuracy, n_trials=30)
best = space.from_params([study.best_params])
print(f"within 14 ms: accuracy {study.best_value:.4f}, true latency {table.query(best, 'latency_ms')[0]:.2f} ms")
assert all(within.valid(space.from_params([trial.params])).all() for trial in study.trials)


# Or a constraint in Optuna's own words: what breaks it may be tried, and is learnt from.
def over_budget(trial):
    return [float(model.predict(space.from_params([trial.params]))[0]) - 14.0]


sampler = NasSampler("weaknas", space=space, seed=0, constraints_func=over_budget)
study = optuna.create_study(direction="maximize", sampler=sampler)
study.optimize(accuracy, n_trials=30)
kept = [trial for trial in study.trials if over_budget(trial)[0] <= 0]
print(f"with a constraint: accuracy {max(trial.value for trial in kept):.4f}, {len(kept)} of 30 trials kept it")


# Or the trade-off: the predicted latency is a second objective, free of charge.
def both(trial):
    row = architecture(trial)
    return float(table.query(row, "valid", seed=0)[0]), float(model.predict(row)[0])


study = optuna.create_study(directions=["maximize", "minimize"], sampler=NasSampler("weaknas", space=space, seed=0))
study.optimize(both, n_trials=30)
for trial in sorted(study.best_trials, key=lambda trial: trial.values[1]):
    print(f"{trial.values[1]:6.2f} ms  accuracy {trial.values[0]:.4f}")
