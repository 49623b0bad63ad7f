"""Weak predictors: cheap regressors from architectures to targets, fitted on what has been evaluated."""

from nasplug.strategies.predictors.base import WHOLE_SPACE, Model, Predictor
from nasplug.strategies.predictors.gaussian_process import GaussianProcess
from nasplug.strategies.predictors.learners import GradientBoosting, MultilayerPerceptron, RandomForest, Ridge

PREDICTORS: dict[str, type[Predictor]] = {
    "gp": GaussianProcess,
    "mlp": MultilayerPerceptron,
    "random-forest": RandomForest,
    "gradient-boosting": GradientBoosting,
    "ridge": Ridge,
}
"""Predictor classes by the name that ``weaknas:predictor=`` takes."""

__all__ = [
    "PREDICTORS",
    "WHOLE_SPACE",
    "GaussianProcess",
    "GradientBoosting",
    "Model",
    "MultilayerPerceptron",
    "Predictor",
    "RandomForest",
    "Ridge",
]
