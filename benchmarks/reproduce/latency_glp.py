"""The latency predictors of arXiv:2101.00732 on its own data, ours beside them; and GPUs that were never measured.

    python benchmarks/reproduce/latency_glp.py --data FOLDER [--seeds 10] [--jobs 2] [--out DIR] [--quick]

FOLDER holds ``glp_ofa_note10_lut.npz``, ``glp_ofa_rtx2080ti_batch64.npz``, ``ofa.npz``, ``fbnet.npz`` and
``nasbench201.npz`` (or ``latency/`` with them).

1. One device, 7,000 networks. The paper's split in file order: rows 0-6,999 train, 7,000-8,499 validation (used for the
   defaults of ours, and for nothing here), 8,500-9,999 test. "One-hot" is linear in one indicator a depth, kernel,
   expansion and resolution, fitted to ``ms`` or ``log ms``; ``lookup`` has an entry a block with its kernel and
   expansion, and a part that grows with the input's area.
   The RTX was in another state while its test rows were measured: their median residual is some -0.2 ms, as in other
   stretches of the file, which no model of the network can know. So the same again with 7,000 and 1,500 random rows.
2. Fewer networks: the first n rows, and the mean over random draws out of the 7,000.
3. Fine-tuning: a base device known on 7,000 networks, the target on n of the same networks; tested as above.
4. ``gpu``: every GPU model of ofa.npz left out once, all its batch sizes; the others known on rows 0-3,499, tested on
   rows 4,000-4,999 without any measurement of the left-out GPU, and with 10 random ones out of the first 4,000 rows,
   which set the scale only (mean over ten draws).
   ``best source`` is the Spearman of the best of the others' true latencies at any batch size, chosen by looking.
5. Another space: a base device known on all 5,000 networks of ofa.npz, the same card on n random FBNet networks out of
   the first 2,000 rows of ``fbnet.npz``; tested on rows 2,000-4,999. ``mlp`` has no base.
6. Other spaces: ``mlp`` and ``mlp-paper`` on the first 900 rows of NAS-Bench-201 and FBNet devices, tested on the rest.
7. Time: fitting on 7,000 networks, and predictions a second of processor time.

What has been computed is kept under OUT/cache and not computed again while the sources of the cost models are the same.
Published figures are those of the latency sheet, recomputed from the authors' data and checkpoints.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Memory, Parallel, delayed
from numpy.typing import NDArray

from nasplug import cost_models, spaces
from nasplug.benchmarks.environment import environment, one_thread
from nasplug.benchmarks.importers.help_npz import read_help
from nasplug.cost_models.accuracy import accuracy
from nasplug.cost_models.base import BankModel, CostModel, LatencyBank
from nasplug.cost_models.baselines import Flops
from nasplug.cost_models.gpu import GPU
from nasplug.cost_models.hardware import device_and_batch
from nasplug.cost_models.lookup import Lookup
from nasplug.cost_models.mlp import MLP, MLPPaper
from nasplug.cost_models.ridge import fit_ridge
from nasplug.cost_models.transfer import Transfer, TransferPaper
from nasplug.spaces import Genotypes, OFAMobileNetV3

SPACE = OFAMobileNetV3()
FILES = {"note10": "glp_ofa_note10_lut.npz", "rtx2080ti": "glp_ofa_rtx2080ti_batch64.npz"}
TRAIN, TEST = np.arange(7000), np.arange(8500, 10_000)
MOMENTUM = {"note10": 0.6, "rtx2080ti": 0.9}
"""What the paper's authors chose for each device."""

OTHER = {"nasbench201": ("2080ti_256", "pixel3", "gold_6240"), "fbnet": ("2080ti_64", "pixel2", "raspi4")}
"""Devices of part 6."""

PUBLISHED = {
    ("own", "note10", "mlp-paper"): (0.3525, 0.4545),
    ("own", "rtx2080ti", "mlp-paper"): (0.3859, 0.4818),
    ("own", "note10", "one-hot, log ms"): (0.573, 0.766),
    ("own", "rtx2080ti", "one-hot, log ms"): (0.478, 0.636),
    ("700", "rtx2080ti", "transfer-paper"): (0.7127, 0.8896),
    ("700", "rtx2080ti", "one-hot, log ms"): (0.541, 0.702),
    ("700", "note10", "transfer-paper"): (7.45, 7.94),
    ("20", "rtx2080ti", "affine map of the base's truth"): (1.28, None),
    ("100", "rtx2080ti", "affine map of the base's truth"): (0.72, None),
}
"""(networks, target, method) -> MAE, RMSE."""

Data = tuple[Genotypes, NDArray[np.float64]]
Fit = Callable[[Genotypes, NDArray[np.float64]], Callable[[Genotypes], NDArray[np.float64]]]


def opened(folder: Path, name: str) -> Any:
    """Return the arrays of a file in FOLDER or its ``latency/``."""
    with np.load(path_of(folder, name)) as file:
        return {key: file[key] for key in file.files}


def device_data(folder: Path, device: str) -> Data:
    """Return the networks and milliseconds of one of the paper's devices."""
    file = opened(folder, FILES[device])
    rows = SPACE.from_settings(file["kernel"], file["expand"], file["depth"], file["resolution"])
    return rows, file["latency_ms"].astype(np.float64)


def figures(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, float]:
    """Return errors in ms and in per cent, and the rank correlation."""
    found = accuracy(predicted, truth)
    return {
        "mae_ms": found.mae,
        "rmse_ms": found.rmse,
        "mape_pct": 100 * found.mape,
        "within_10_pct": 100 * found.within_10pct,
        "spearman": found.spearman,
    }


def onehot(log: bool) -> Fit:
    """Return the additive model: ridge on one indicator a choice, resolution included; to ms or their logarithms."""

    def features(rows: Genotypes) -> NDArray[np.float64]:
        depth = np.eye(3)[rows[:, :5]].reshape(len(rows), -1)
        return np.column_stack([SPACE.encode(rows, "help").astype(np.float64), depth])

    def fit(rows: Genotypes, ms: NDArray[np.float64]) -> Callable[[Genotypes], NDArray[np.float64]]:
        solved = fit_ridge(features(rows), np.log(ms) if log else ms)
        back = np.exp if log else np.asarray
        return lambda some: back(features(some) @ solved.weights + solved.constant)

    return fit


def model(name: str, device: str) -> Fit:
    """Return the method of a name as a function of measurements."""
    makers: dict[str, Callable[[], CostModel]] = {
        "mlp": lambda: MLP(space=SPACE),
        "mlp-paper": lambda: MLPPaper(space=SPACE, momentum=MOMENTUM[device]),
        "lookup": lambda: Lookup(space=SPACE),
        "flops": lambda: Flops(space=SPACE),
    }
    if name in makers:
        return lambda rows, ms: makers[name]().fit(rows, ms).predict
    return onehot(log=name == "one-hot, log ms")


OWN = ("mlp", "mlp-paper", "one-hot, ms", "one-hot, log ms", "lookup", "flops")


def own(folder: Path, device: str, name: str) -> dict[str, Any]:
    """Return part 1's line of a method."""
    rows, ms = device_data(folder, device)
    with one_thread():
        started = time.process_time()
        predict = model(name, device)(rows[TRAIN], ms[TRAIN])
        seconds = time.process_time() - started
        found = figures(predict(rows[TEST]), ms[TEST])
    return {"part": "own", "device": device, "method": name, "measured": 7000, **found, "fit_cpu_s": seconds}


def shuffled(folder: Path, device: str, name: str, seeds: int) -> dict[str, Any]:
    """Return part 1's line of a method where training and test rows are random, mean over seeds."""
    rows, ms = device_data(folder, device)
    found = []
    with one_thread():
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(rows))
            train, test = order[: len(TRAIN)], order[-len(TEST) :]
            found.append(figures(model(name, device)(rows[train], ms[train])(rows[test]), ms[test]))
    means = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
    return {"part": "random split", "device": device, "method": name, "measured": 7000, **means}


def draws(n: int, seeds: int) -> list[NDArray[np.intp]]:
    """Return the first n rows, then random draws."""
    return [np.arange(n), *(np.random.default_rng([seed, n]).permutation(7000)[:n] for seed in range(seeds))]


def fewer(folder: Path, device: str, name: str, n: int, seeds: int) -> dict[str, Any]:
    """Return part 2's line."""
    rows, ms = device_data(folder, device)
    with one_thread():
        found = [figures(model(name, device)(rows[at], ms[at])(rows[TEST]), ms[TEST]) for at in draws(n, seeds)]
    return {"part": "fewer", "device": device, "method": name, "measured": n, **summed(found)}


def summed(found: list[dict[str, float]]) -> dict[str, Any]:
    """Return the figures of the first n rows, and mean and s.d. over the random draws."""
    line: dict[str, Any] = {f"first_{key}": value for key, value in found[0].items()}
    for key in ("mae_ms", "rmse_ms", "spearman"):
        values = [one[key] for one in found[1:]]
        line |= {key: float(np.mean(values)), f"{key}_sd": float(np.std(values))}
    return line


def tuned(folder: Path, base: str, target: str, name: str, sizes: tuple[int, ...], seeds: int) -> list[dict[str, Any]]:
    """Return part 3's lines of a method, one a size; the base is trained once."""
    rows, ms = device_data(folder, target)
    base_rows, base_ms = device_data(folder, base)
    assert (rows == base_rows).all()  # the two files hold the same networks
    lines = []
    with one_thread():
        bank = LatencyBank(SPACE, rows[TRAIN], (base,), base_ms[TRAIN, None])
        tuner: BankModel | None = None
        if name == "transfer":
            tuner = Transfer(space=SPACE).pretrain(bank)
        elif name == "transfer-paper":
            tuner = TransferPaper(space=SPACE, base_momentum=MOMENTUM[base]).pretrain(bank)
        for n in sizes:
            found = []
            for at in draws(n, seeds):
                if tuner is not None:
                    predicted = tuner.fit(rows[at], ms[at]).predict(rows[TEST])
                elif name == "affine map of the base's truth":
                    predicted = np.polyval(np.polyfit(base_ms[at], ms[at], 1), base_ms[TEST])
                else:
                    predicted = model(name, target)(rows[at], ms[at])(rows[TEST])
                found.append(figures(predicted, ms[TEST]))
            line = {"part": "fine-tuning", "base": base, "device": target, "method": name, "measured": n}
            lines.append(line | summed(found))
    return lines


TUNED = ("transfer", "mlp", "transfer-paper", "one-hot, log ms", "affine map of the base's truth")


def left_out(folder: Path, held: str) -> list[dict[str, Any]]:
    """Return part 4's lines of one GPU model."""
    file = opened(folder, "ofa.npz")
    rows = SPACE.from_settings(file["kernel"], file["expand"], file["depth"], file["resolution"])
    devices = [name for name in file if name[-1].isdigit()]
    known = tuple(name for name in devices if device_and_batch(name)[0] != held)
    train, test = np.arange(3500), np.arange(4000, 5000)
    lines = []
    with one_thread():
        bank = LatencyBank(SPACE, rows[train], known, np.stack([file[d][train] for d in known], axis=1).astype(float))
        gpu = GPU(space=SPACE).pretrain(bank)
        for device in (name for name in devices if name not in known):
            ms = file[device].astype(np.float64)
            zero = figures(gpu.aim(*device_and_batch(device)).predict(rows[test]), ms[test])
            drawn = [np.random.default_rng(seed).permutation(4000)[:10] for seed in range(10)]
            several = [figures(gpu.fit(rows[at], ms[at]).predict(rows[test]), ms[test]) for at in drawn]
            ten = {key: float(np.mean([one[key] for one in several])) for key in several[0]}
            alone = figures(MLP(space=SPACE).fit(rows[train], ms[train]).predict(rows[test]), ms[test])
            best = max(figures(file[d][test].astype(float), ms[test])["spearman"] for d in known)
            line = {"part": "gpu", "device": device, "known": list(known), "best_source_spearman": best}
            for prefix, found in (("zero", zero), ("ten", ten), ("own", alone)):
                line |= {f"{prefix}_{key}": value for key, value in found.items()}
            lines.append(line)
    return lines


def path_of(folder: Path, name: str) -> Path:
    """Return a file of FOLDER or its ``latency/``."""
    return folder / name if (folder / name).exists() else folder / "latency" / name


def elsewhere(folder: Path, source: str, target: str, seeds: int) -> list[dict[str, Any]]:
    """Return part 5's lines of one pair of devices."""
    from_ofa = read_help(path_of(folder, "ofa.npz")).only([source])
    fbnet = read_help(path_of(folder, "fbnet.npz"))
    rows, ms, test = fbnet.genotypes, fbnet.on(target), np.arange(2000, 5000)
    lines = []
    with one_thread():
        tuner = Transfer(space=fbnet.space).pretrain(from_ofa)
        for n in (5, 10, 20, 50):
            picked = [np.random.default_rng([seed, n]).permutation(2000)[:n] for seed in range(seeds)]
            for name, one in (("transfer", tuner), ("mlp", MLP(space=fbnet.space))):
                found = [figures(one.fit(rows[at], ms[at]).predict(rows[test]), ms[test]) for at in picked]
                line = {"part": "another space", "base": f"ofa {source}", "device": f"fbnet {target}", "method": name}
                means = {key: float(np.mean([each[key] for each in found])) for key in found[0]}
                lines.append(line | {"measured": n, **means})
    return lines


def other_space(folder: Path, name: str, device: str, method: str) -> dict[str, Any]:
    """Return part 6's line."""
    bank = read_help(path_of(folder, f"{name}.npz"))
    rows, ms, train = bank.genotypes, bank.on(device), np.arange(900)
    with one_thread():
        fitted = (MLP(space=bank.space) if method == "mlp" else MLPPaper(space=bank.space)).fit(rows[train], ms[train])
        found = figures(fitted.predict(rows[900:]), ms[900:])
    return {"part": "other spaces", "device": f"{name} {device}", "method": method, "measured": 900, **found}


def speed(folder: Path) -> list[dict[str, Any]]:
    """Return part 5: predictions a second."""
    rows, ms = device_data(folder, "rtx2080ti")
    many = SPACE.sample(50_000, np.random.default_rng(0))
    lines = []
    with one_thread():
        for name, fitted in (
            ("mlp", MLP(space=SPACE, epochs=2).fit(rows[:1000], ms[:1000])),
            ("mlp-paper", MLPPaper(space=SPACE, epochs=1).fit(rows[:1000], ms[:1000])),
        ):
            spent = []
            for _ in range(5):
                started = time.process_time()
                fitted.predict(many)
                spent.append(time.process_time() - started)
            lines.append({"part": "speed", "method": name, "predictions_per_cpu_s": len(many) / min(spent)})
    return lines


def sources_digest() -> str:
    """Return what tells one state of the cost models' and spaces' sources from another."""
    files = [
        *Path(cost_models.__file__).parent.glob("*.py"),
        *Path(spaces.__file__).parent.glob("*.py"),
        Path(__file__),
    ]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()[:16]


def number(value: float | None, width: int = 9, digits: int = 4) -> str:
    """Return a figure or a dash."""
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.{digits}f}"


def show(lines: list[dict[str, Any]]) -> None:
    """Print the tables."""
    print("1. One device, 7,000 networks, test rows 8,500-9,999 (ms)")
    print(
        f"{'device':<11}{'method':<18}{'MAE':>9}{'RMSE':>9}{'MAPE %':>8}{'<10 %':>8}{'rho':>9}{'fit s':>8}   published"
    )
    for line in (one for one in lines if one["part"] == "own"):
        published = PUBLISHED.get(("own", line["device"], line["method"]))
        print(
            f"{line['device']:<11}{line['method']:<18}{line['mae_ms']:9.4f}{line['rmse_ms']:9.4f}{line['mape_pct']:8.2f}"
            f"{line['within_10_pct']:8.1f}{line['spearman']:9.4f}{line['fit_cpu_s']:8.1f}"
            + (f"{published[0]:9.4f}{published[1]:9.4f}" if published else "")
        )
    for device in FILES:
        rmse = {one["method"]: one["rmse_ms"] for one in lines if one["part"] == "own" and one["device"] == device}
        against = ", ".join(f"{name} {rmse['mlp'] / rmse[name]:.2f}" for name in OWN[2:])
        print(f"RMSE of mlp on {device} as a share of that of: {against}")
    print(f"The same with random rows: {'method':<18}{'MAE':>9}{'RMSE':>9}{'rho':>9}{'RMSE of mlp / it':>19}")
    for line in (one for one in lines if one["part"] == "random split"):
        (mlp,) = [
            one["rmse_ms"] for one in lines
            if (one["part"], one.get("method"), one.get("device")) == ("random split", "mlp", line["device"])
        ]  # fmt: skip
        print(
            f"{line['device']:>25}  {line['method']:<18}{line['mae_ms']:9.4f}{line['rmse_ms']:9.4f}"
            f"{line['spearman']:9.4f}{mlp / line['rmse_ms']:19.2f}"
        )
    print("\n2. and 3. Fewer networks of the target; MAE and RMSE of the first n rows, MAE over random draws")
    print(
        f"{'base':<11}{'target':<11}{'n':>5}  {'method':<32}{'MAE':>9}{'RMSE':>9}{'random':>9}{'s.d.':>8}   published"
    )
    for line in (one for one in lines if one["part"] in ("fewer", "fine-tuning")):
        base = line.get("base", "none")
        mapped = line["part"] == "fine-tuning"
        published = PUBLISHED.get((str(line["measured"]), line["device"], line["method"])) if mapped else None
        print(
            f"{base:<11}{line['device']:<11}{line['measured']:>5}  {line['method']:<32}{line['first_mae_ms']:9.4f}"
            f"{line['first_rmse_ms']:9.4f}{line['mae_ms']:9.4f}{line['mae_ms_sd']:8.4f}"
            + (number(published[0]) + number(published[1]) if published else "")
        )
    print("\n4. GPU models never measured: without, and with 10 measurements for the scale; own: 3,500 of that GPU")
    head = f"{'device':<14}{'MAPE %':>8}{'rho':>8}{'MAE':>9}   {'10: MAPE %':>10}{'MAE':>9}"
    print(head + f"   {'own: MAPE %':>11}{'rho':>8}{'best source rho':>17}")
    for line in (one for one in lines if one["part"] == "gpu"):
        print(
            f"{line['device']:<14}{line['zero_mape_pct']:8.1f}{line['zero_spearman']:8.3f}{line['zero_mae_ms']:9.3f}"
            f"   {line['ten_mape_pct']:10.1f}{line['ten_mae_ms']:9.3f}   {line['own_mape_pct']:11.1f}"
            f"{line['own_spearman']:8.3f}{line['best_source_spearman']:17.3f}"
        )
    print("\n5. A base of another space (mean over random draws)")
    print(f"{'base':<18}{'target':<20}{'n':>4}  {'method':<10}{'MAPE %':>8}{'rho':>8}")
    for line in (one for one in lines if one["part"] == "another space"):
        print(
            f"{line['base']:<18}{line['device']:<20}{line['measured']:>4}  {line['method']:<10}{line['mape_pct']:8.2f}"
            f"{line['spearman']:8.3f}"
        )
    print("\n6. Other spaces, 900 networks")
    print(f"{'device':<26}{'method':<12}{'MAE':>9}{'RMSE':>9}{'MAPE %':>8}{'rho':>9}")
    for line in (one for one in lines if one["part"] == "other spaces"):
        print(
            f"{line['device']:<26}{line['method']:<12}{line['mae_ms']:9.4f}{line['rmse_ms']:9.4f}{line['mape_pct']:8.2f}"
            f"{line['spearman']:9.4f}"
        )
    print("\n7. Predictions a second of processor time")
    for line in (one for one in lines if one["part"] == "speed"):
        print(f"{line['method']:<12}{line['predictions_per_cpu_s']:12,.0f}")


def main() -> None:
    """Measure, print the tables and write ``summary.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="random draws of the networks to measure")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("latency_glp"))
    parser.add_argument("--quick", action="store_true", help="without what takes minutes: the published networks")
    options = parser.parse_args()
    seeds = 2 if options.quick else options.seeds
    slow = ("mlp-paper", "transfer-paper") if options.quick else ()
    held = sorted({device_and_batch(name)[0] for name in opened(options.data, "ofa.npz") if name[-1].isdigit()})
    jobs = [delayed(own)(options.data, device, name) for device in FILES for name in OWN if name not in slow]
    jobs += [
        delayed(shuffled)(options.data, device, name, min(seeds, 3))
        for device in FILES
        for name in OWN
        if name != "mlp-paper"
    ]
    jobs += [
        delayed(fewer)(options.data, device, "mlp", n, seeds if n < 2000 else 2)
        for device in FILES
        for n in (50, 100, 300, 700, 2000)
    ]
    jobs += [
        delayed(tuned)(options.data, base, target, name, (20, 100, 700), seeds if name != "transfer-paper" else 2)
        for base, target in (("note10", "rtx2080ti"), ("rtx2080ti", "note10"))
        for name in TUNED
        if name not in slow and (base == "note10" or not options.quick)
    ]
    jobs += [delayed(left_out)(options.data, name) for name in (held[:1] if options.quick else held)]
    pairs = (("2080ti_64", "2080ti_64"), ("2080ti_32", "2080ti_32"), ("titan_xp_64", "titanxp_64"))
    jobs += [delayed(elsewhere)(options.data, *pair, seeds) for pair in pairs]
    jobs += [
        delayed(other_space)(options.data, space, device, method)
        for space, devices in OTHER.items()
        for device in devices
        for method in ("mlp", "mlp-paper")
        if method not in slow
    ]
    memory = Memory(options.out / "cache" / sources_digest(), verbose=0)
    jobs = [(memory.cache(function), arguments, named) for function, arguments, named in jobs]
    results = Parallel(n_jobs=options.jobs)(jobs)
    lines = [line for result in results for line in (result if isinstance(result, list) else [result])]
    lines += speed(options.data)
    show(lines)
    options.out.mkdir(parents=True, exist_ok=True)
    facts = {"rows": lines, "seeds": seeds, "environment": environment()}
    (options.out / "summary.json").write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
