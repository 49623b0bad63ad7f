"""How well can anything rank HELP's test devices: models that learn from all 15,625 measured cells of the very device.

    python benchmarks/reproduce/latency_ceiling.py --data FOLDER [--out DIR]

FOLDER holds ``nasbench201.npz`` (or ``latency/`` with it) in HELP's layout. "Additive": one number an operation and
edge, by least squares on all cells, tested on these. "Pairs": every pair of operations as well, ridge regression, ten
folds, each tested on cells that it did not see. What they leave is noise of the measurements, to whoever predicts a
cell's latency from the cell. Spearman on all rows and on HELP's trimmed ones; no measured-network count of a few-shot
figure (:mod:`latency_few_shot`) can be expected to pass them by more than chance.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.preprocessing import PolynomialFeatures

from nasplug.benchmarks.importers.help_npz import read_help
from nasplug.benchmarks.latency_tasks import TASKS, help_trimmed_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1, help="accepted for uniformity; one partition into folds")
    parser.add_argument("--jobs", type=int, default=1, help="accepted for uniformity; it takes seconds")
    parser.add_argument("--out", type=Path, default=Path("latency_ceiling"))
    parser.add_argument("--quick", action="store_true", help="accepted for uniformity; it takes seconds")
    options = parser.parse_args()
    folder = options.data / "latency" if (options.data / "latency").is_dir() else options.data
    bank = read_help(folder / "nasbench201.npz")
    task, missing = TASKS["HELP"].narrowed(bank)
    single = bank.space.encode(bank.genotypes, "onehot").astype(np.float64)
    pairs = PolynomialFeatures(2, interaction_only=True, include_bias=False).fit_transform(single)
    folds = KFold(10, shuffle=True, random_state=0)
    rows = []
    for device in task.targets:
        ms = bank.on(device)
        trimmed = help_trimmed_rows(ms)
        row: dict[str, float | str] = {"device": device}
        for name, predicted in (
            ("additive", Ridge(1e-3).fit(single, ms).predict(single)),
            ("pairs", cross_val_predict(Ridge(10.0), pairs, ms, cv=folds)),
        ):
            row[f"{name}_all"] = float(spearmanr(predicted, ms)[0])
            row[f"{name}_trimmed"] = float(spearmanr(predicted[trimmed], ms[trimmed])[0])
        rows.append(row)
    columns = ("additive_all", "pairs_all", "additive_trimmed", "pairs_trimmed")
    rows.append({"device": "mean"} | {one: float(np.mean([row[one] for row in rows])) for one in columns})
    print(f"Spearman of models of all {len(bank)} cells; not in the file: {', '.join(missing) or 'none'}")
    print(f"{'device':<12}" + "".join(f"{one.replace('_', ', '):>20}" for one in columns))
    for row in rows:
        print(f"{row['device']:<12}" + "".join(f"{row[one]:>20.4f}" for one in columns))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "summary.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
