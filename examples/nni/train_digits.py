"""A trial that trains: a small network on scikit-learn's digits. Alone it trains one with default parameters."""

import warnings

import nni
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

DEFAULT = {"width": 32, "activation": "relu", "alpha": 1e-4, "solver": {"_name": "adam", "learning_rate": 1e-3}}

warnings.simplefilter("ignore", ConvergenceWarning)
params = nni.get_next_parameter() or DEFAULT
solver = params["solver"]
x, y = load_digits(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(x / 16, y, test_size=0.3, random_state=0)

model = MLPClassifier(
    (params["width"],),
    activation=params["activation"],
    alpha=params["alpha"],
    solver=solver["_name"],
    learning_rate_init=solver["learning_rate"],
    momentum=solver.get("momentum", 0.9),
    max_iter=5,
    warm_start=True,
    random_state=0,
)
for _ in range(4):
    model.fit(x_train, y_train)  # five epochs more
    accuracy = float(model.score(x_valid, y_valid))
    nni.report_intermediate_result(accuracy)

# "architecture" lets the tuner check that the result belongs to the parameters it asked for.
nni.report_final_result({"default": accuracy, "architecture": params})
print(f"validation accuracy {accuracy:.4f}")
