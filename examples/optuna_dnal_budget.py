"""How small may a network of one's own be? Optuna asks for budgets, DNAL answers with slim networks."""

import optuna
import torch
from torch import nn

from nasplug.images import load_images
from nasplug.spaces.modules.counting import count_params
from nasplug.spaces.modules.gating import Gated
from nasplug.strategies.supernet.channel_gates import Aim, Gating, Phases, space_of
from nasplug.strategies.supernet.data import halves

optuna.logging.set_verbosity(optuna.logging.WARNING)
torch.set_num_threads(1)
torch.manual_seed(0)
data = halves(load_images("digits"), share=0.8)  # gates see one part, the other judges
slim_networks = {}


def conv(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


net = nn.Sequential(  # any network that torch.fx can trace
    *conv(1, 16),
    nn.MaxPool2d(2),
    *conv(16, 24),
    *conv(24, 32),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(32, 10),
)
full = count_params(net)


def objective(trial: optuna.Trial) -> tuple[float, float]:
    budget = trial.suggest_float("budget", 0.1, 0.9)
    gated = Gated(net, image=(1, 8, 8))
    method = Gating(gated, space_of(gated, "mine"), data, Phases(3, 4, 2), Aim(budget=budget, cost="params"), seed=0)
    for _ in range(method.stages):
        facts = method.advance().facts
    slim_networks[trial.number] = method.network
    return facts["valid"], count_params(method.network) / full


study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.TPESampler(seed=0))
study.enqueue_trial({"budget": 0.25})
study.optimize(objective, n_trials=3)
for trial in sorted(study.best_trials, key=lambda one: one.values[1]):
    print(f"{trial.values[1]:6.1%} of {full} parameters: accuracy {trial.values[0]:.4f} on images that judge")
smallest = slim_networks[min(study.best_trials, key=lambda one: one.values[1]).number]
print(
    smallest.eval()(torch.zeros(1, 1, 8, 8)).shape, "from", [m for m in smallest.modules() if isinstance(m, nn.Conv2d)]
)
