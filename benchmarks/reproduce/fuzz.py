"""Damage files at random and read them: importers, tables, cost models, checkpoints, images, summaries.

    python benchmarks/reproduce/fuzz.py --cases 2000 --out fuzz

A case is a valid file with some bytes changed, inserted, removed, repeated or cut off; inside zip, gzip and bzip2
archives half of the cases change the content and pack it again, so that checksums do not shield the reader. Reading
must end in a result or in one of nasplug's own errors, in seconds, with bounded memory, and without running or
importing anything that the file names. Anything else is a fault. Each target runs in a process of its own, whose
address space is limited; a fault is written to OUT with the file that caused it.
"""

import argparse
import bz2
import gzip
import io
import json
import pickle
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasplug.errors import NasplugError

SLOW_S = 20.0
"""A case that takes longer is a fault: the slowest valid file takes two seconds."""

EXTRA_BYTES = 3 * 2**30
"""Address space that a process may take beyond what it has when its target is ready."""

EVENTS = {
    *("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn"),
    *("socket.connect", "webbrowser.open", "ctypes.dlopen", "shutil.rmtree", "os.remove", "os.rename"),
}
"""Audit events that no reader has a reason to raise."""

CELLS = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|",
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
    "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_1x1~2|",
)

Mutation = tuple[int, float, float, bytes]
"""Kind, place and length as parts of the file, and bytes."""


# -- damage ----------------------------------------------------------------------------------------------------------


def mutate(data: bytes, mutations: Sequence[Mutation]) -> bytes:
    """Return the bytes with some changes: overwritten, inserted, removed, repeated, cut off, a bit flipped."""
    found = bytearray(data)
    for kind, place, length, what in mutations:
        at = int(place * len(found))
        end = min(at + 1 + int(length**4 * len(found)), len(found))  # mostly short
        if kind == 0:
            found[at : at + len(what)] = what
        elif kind == 1:
            found[at:at] = what
        elif kind == 2:
            del found[at:end]
        elif kind == 3:
            found[at:at] = found[at:end]
        elif kind == 4:
            del found[at:]
        elif at < len(found):
            found[at] ^= 1 << (what[0] % 8 if what else 0)
    return bytes(found)


def damaged(data: bytes, mutations: Sequence[Mutation], inside: float | None) -> bytes:
    """Return a damaged file.

    Args:
        data: the file.
        mutations: what to change.
        inside: change the content of an archive instead and pack it again; the number picks the member.
    """
    if inside is None:
        return mutate(data, mutations)
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(one, archive.read(one)) for one in archive.infolist()]
        picked, packed = int(inside * len(members)), io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for k, (one, content) in enumerate(members):
                changed = mutate(content, mutations) if k == picked else content
                archive.writestr(one.filename, changed, one.compress_type)
        return packed.getvalue()
    if data[:2] == b"\x1f\x8b":
        return gzip.compress(mutate(gzip.decompress(data), mutations))
    if data[:3] == b"BZh":
        return bz2.compress(mutate(bz2.decompress(data), mutations))
    return mutate(data, mutations)


TOKENS = (
    b"\x00", b"\xff" * 4, b"\xff" * 8, b"\x7f" * 8, b"-1", b"1e999", b"NaN", b"null", b"[]", b"{}", b'"', b"\n", b",",
    b"|", b"999999999999", b"(1000000000,)", b"(100000000000, 3)", b"|O", b"<f8", b"\x80\x04.", b"&a [*a]", b"\xc3\x28",
    b"cos\nsystem\n(S'false'\ntR.", b"\x8c\x02os\x8c\x06system\x93\x8c\x05false\x85R.",
    b"!!python/object/apply:os.system ['false']",
)  # fmt: skip


def random_mutations(rng: np.random.Generator) -> list[Mutation]:
    """Return one to six mutations."""
    return [
        (
            int(rng.integers(6)),
            float(rng.random()),
            float(rng.random()),
            TOKENS[rng.integers(len(TOKENS))] if rng.random() < 0.5 else rng.bytes(int(rng.integers(1, 9))),
        )
        for _ in range(rng.integers(1, 7))
    ]


# -- targets ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """Something that reads files from outside.

    Attributes:
        make: writes valid files into an empty folder and returns those to damage.
        read: reads what is in the folder; whatever is no error of nasplug is a fault.
    """

    make: Callable[[Path], list[Path]]
    read: Callable[[Path], Any]


def _importing(name: str, content: Callable[[Path], None], **options: Any) -> Target:
    from nasplug.benchmarks.importers import ImportOptions, import_files

    def make(folder: Path) -> list[Path]:
        content(folder / name)
        return [folder / name] if (folder / name).is_file() else sorted(p for p in (folder / name).iterdir())

    return Target(make, lambda folder: [one.table.to_arrow() for one in
                                        import_files([folder / name], ImportOptions(**options))])  # fmt: skip


def _csv(path: Path) -> None:
    rows = "".join(f'"{cell}",{90 + k},{89 - k},{10.5 * k + 1}\n' for k, cell in enumerate(CELLS))
    data = f"arch_str,valid@200,test@200,latency_ms\n{rows}".encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _parquet(path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"arch_str": CELLS, "valid@200": [90.0, 91.0, 92.0], "test": [80.0, 81.0, 82.0]}).to_parquet(path)


def _macro(path: Path) -> None:
    entries = {
        arch: {"test_acc": [92.0, 93.0, 92.5], "mean_acc": 92.5, "std": 0.4, "flops": 1.1e7, "params": 9e5}
        for arch in ("00000000", "22212220", "12012012")
    }
    path.write_text(json.dumps(entries))


def _help(path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(path, arch=rng.integers(0, 9, (20, 22)), pixel3=rng.uniform(5, 50, 20), raspi4=rng.uniform(50, 500, 20))


def _records() -> dict[str, Any]:
    def training(seed: int, epochs: int) -> dict[str, Any]:
        accuracies = {f"{split}@{epochs - 1}": 70.0 + seed for split in ("x-valid", "ori-test", "x-test")}
        return {"epochs": epochs, "params": 0.3, "flop": 40.0, "latency": [0.01, 0.02],
                "train_times": {0: 1.5, 1: 1.5}, "eval_acc1es": accuracies}  # fmt: skip

    sets = ("cifar10-valid", "cifar10", "cifar100", "ImageNet16-120")
    return {
        length: {"arch_str": "", "dataset_seed": {one: [7, 8] for one in sets},
                 "all_results": {(one, seed): training(seed, int(length)) for one in sets for seed in (7, 8)}}
        for length in ("12", "200")
    }  # fmt: skip


def _pth(path: Path) -> None:
    infos = {k: {name: _records()[key] | {"arch_str": cell} for name, key in (("less", "12"), ("full", "200"))}
             for k, cell in enumerate(CELLS)}  # fmt: skip
    content = {"meta_archs": list(CELLS), "total_archs": 3, "arch2infos": infos, "evaluated_indexes": {0, 1, 2}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, 2))


def _nats(folder: Path) -> None:
    folder.mkdir()
    meta = {"meta_archs": list(CELLS), "total_archs": 3, "arch2infos": None, "evaluated_indexes": set()}
    (folder / "meta.pickle.pbz2").write_bytes(bz2.compress(pickle.dumps(meta)))
    for k, cell in enumerate(CELLS):
        record = {length: one | {"arch_str": cell} for length, one in _records().items()}
        (folder / f"{k:06d}.pickle.pbz2").write_bytes(bz2.compress(pickle.dumps(record)))


def _predictor() -> Target:
    from nasplug.benchmarks.importers.ofa import read_predictor

    def make(folder: Path) -> list[Path]:
        import torch

        torch.manual_seed(0)
        layers = [torch.nn.Linear(a, b) for a, b in ((128, 400), (400, 400), (400, 400), (400, 1))]
        state = torch.nn.Sequential(*(part for layer in layers for part in (layer, torch.nn.ReLU()))).state_dict()
        torch.save(state, folder / "accuracy_predictor.pth", _use_new_zipfile_serialization=False)
        return [folder / "accuracy_predictor.pth"]

    return Target(make, lambda folder: read_predictor(folder / "accuracy_predictor.pth"))


def _note10() -> Target:
    from nasplug.benchmarks.importers import ofa

    def make(folder: Path) -> list[Path]:
        blocks, rest = ofa._layer_names(160)
        entries = {name: {"count": 1, "mean": 1.5, "std": 0.1} for name in [*rest, *(n for one in blocks for n in one)]}
        (folder / "160_lookup_table.yaml").write_text(json.dumps(entries, indent=0))
        return [folder / "160_lookup_table.yaml"]

    return Target(make, lambda folder: ofa._read_yaml(folder / "160_lookup_table.yaml"))


def _table() -> Target:
    from nasplug.benchmarks import open_benchmark
    from nasplug.benchmarks.importers import ImportOptions, import_files
    from nasplug.benchmarks.table import write_table

    def make(folder: Path) -> list[Path]:
        _csv(folder / "t.csv")
        (one,) = import_files([folder / "t.csv"], ImportOptions(space="nasbench201"))
        write_table(one.table.to_arrow(), folder / "t.arrow")
        return [folder / "t.arrow"]

    def read(folder: Path) -> Any:
        table = open_benchmark(str(folder / "t.arrow"))
        held = table.architectures()
        assert held is not None
        return [table.labels(held, signal) for signal in (table.search, table.report)]

    return Target(make, read)


def _cost_model(name: str) -> Target:
    from nasplug import registry
    from nasplug.cost_models.base import load_cost_model
    from nasplug.spaces import NASBench201

    cells = NASBench201().sample_distinct(30, np.random.default_rng(0))

    def make(folder: Path) -> list[Path]:
        model = registry.configure("cost model", name, NASBench201())
        model.fit(cells, 3.0 + (cells == 3).sum(axis=1), device="phone")
        model.save(folder / "model.npz")
        return [folder / "model.npz"]

    return Target(make, lambda folder: load_cost_model(folder / "model.npz").predict(cells))


def _checkpoint() -> Target:
    import torch

    from nasplug import registry
    from nasplug.spaces import NASBench201
    from nasplug.strategies import History, trial_rng

    torch.set_num_threads(1)
    history = History.empty(NASBench201())

    def strategy(folder: Path) -> Any:
        spec = f"darts:images=digits,epochs=2,folder={folder / 'run'}"
        return registry.configure("strategy", spec, NASBench201())

    def make(folder: Path) -> list[Path]:
        strategy(folder).propose(history, 1, trial_rng(0, 0))
        return sorted(p for p in (folder / "run").rglob("*") if p.is_file() and p.suffix in (".pt", ".json"))

    return Target(make, lambda folder: strategy(folder).propose(history, 1, trial_rng(0, 0)))


def _images() -> Target:
    from nasplug.images import load_images

    def make(folder: Path) -> list[Path]:
        rng, made = np.random.default_rng(0), folder / "cifar-10-batches-py"
        made.mkdir()
        for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
            content = {b"data": rng.integers(0, 256, (10, 3072), dtype=np.uint8), b"labels": list(range(10))}
            (made / name).write_bytes(pickle.dumps(content, 2))
        return sorted(made.iterdir())

    return Target(make, lambda folder: load_images("cifar10", folder))


def _summary() -> Target:
    from nasplug.benchmarks.compare import Study, compare
    from nasplug.benchmarks.report import write_report
    from nasplug.benchmarks.summary import write_summary
    from nasplug.benchmarks.table import write_table

    def make(folder: Path) -> list[Path]:
        from nasplug.benchmarks import Signal, Table, TableInfo
        from nasplug.spaces import NASBench201

        space = NASBench201()
        cells = space.all()[::10]
        values = (cells == 3).sum(axis=1) / 10 + 0.2
        info = TableInfo(space.name, Signal("valid"), Signal("test"), "made up", "none", ())
        write_table(Table(info, space, cells, {"valid": values, "test": values, "params": 1 + values}).to_arrow(),
                    folder / "t.arrow")  # fmt: skip
        compare(Study(benchmarks=[str(folder / "t.arrow")], strategies=["random", "local-search"], seeds=3, budget=5),
                folder / "study")  # fmt: skip
        write_summary(folder / "study")
        return [folder / "study" / name for name in ("summary.json", "results.parquet", "timings.parquet")]

    def read(folder: Path) -> Any:
        return write_report(folder / "study"), write_summary(folder / "study")

    return Target(make, read)


TARGETS: dict[str, Callable[[], Target]] = {
    "csv": lambda: _importing("t.csv", _csv, space="nasbench201"),
    "csv.gz": lambda: _importing("t.csv.gz", _csv, space="nasbench201"),
    "parquet": lambda: _importing("t.parquet", _parquet, space="nasbench201"),
    "nasbench-macro": lambda: _importing("t.json", _macro),
    "help-npz": lambda: _importing("t.npz", _help),
    "nasbench201-pth": lambda: _importing("t.pth", _pth),
    "nats-bench": lambda: _importing("nats", _nats),
    "ofa-predictor": _predictor,
    "ofa-tables": _note10,
    "table": _table,
    "cost-model lookup": lambda: _cost_model("lookup"),
    "cost-model few-shot": lambda: _cost_model("few-shot"),
    "cost-model roofline": lambda: _cost_model("roofline"),
    "checkpoint": _checkpoint,
    "images": _images,
    "study": _summary,
}


FEWER = {"checkpoint": 10, "study": 5, "ofa-predictor": 5}
"""How many times fewer cases the slow targets get."""


# -- cases -----------------------------------------------------------------------------------------------------------


class Watch:
    """Listens to what Python says that it does: starting programs, connecting, removing, importing what is new."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.listening = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, details: tuple[Any, ...]) -> None:
        if self.listening and event in EVENTS and not str(details[:1]).count(tempfile.gettempdir()):
            self.heard.append(f"{event}{details!r:.80}")


def attempt(target: Target, folder: Path, path: Path, data: bytes, watch: Watch) -> str | None:
    """Read a folder in which one file is damaged; return the fault, None where there is none."""
    whole = path.read_bytes()
    before, started = set(sys.modules), time.monotonic()
    try:
        path.write_bytes(data)
        watch.heard, watch.listening = [], True
        try:
            target.read(folder)
        except NasplugError:
            pass
        except Exception as error:
            return f"{type(error).__name__}: {error}"[:200]
        finally:
            watch.listening = False
    finally:
        path.write_bytes(whole)
    if watch.heard:
        return f"did {watch.heard[0]}"
    foreign = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
    if foreign - {"nasplug", "numpy", "scipy", "sklearn", "pandas", "pyarrow", "torch", "joblib", "plotly", "jinja2"}:
        return f"imported {sorted(foreign)}"
    if time.monotonic() - started > SLOW_S:
        return f"took {time.monotonic() - started:.0f} s"
    return None


def limit_memory() -> None:
    """Refuse this process more than :data:`EXTRA_BYTES` beyond what it has now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[0])
    most = pages * resource.getpagesize() + EXTRA_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def run_target(name: str, cases: int, seed: int, out: Path) -> dict[str, Any]:
    """Try one target, in this process; return its row."""
    rng, watch, faults = np.random.default_rng([seed, list(TARGETS).index(name)]), Watch(), Counter[str]()
    accepted = 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        target = TARGETS[name]()
        files = target.make(folder)
        target.read(folder)  # what is valid is read, and all that reading needs is imported
        limit_memory()
        target.read(folder)  # and still is, within the limit
        for case in range(cases):
            path = files[rng.integers(len(files))]
            whole = path.read_bytes()
            data = damaged(whole, random_mutations(rng), float(rng.random()) if rng.random() < 0.5 else None)
            fault = attempt(target, folder, path, data, watch)
            accepted += fault is None and data == whole
            if fault:
                if not faults[fault.partition(":")[0]]:
                    (out / f"{name.replace(' ', '-')}-{case}-{path.name}").write_bytes(data)
                    print(f"{name}, case {case}, {path.name}: {fault}", file=sys.stderr, flush=True)
                faults[fault.partition(":")[0]] += 1
    return {"target": name, "cases": cases, "faults": sum(faults.values()), "kinds": dict(faults),
            "unchanged": accepted, "seconds": round(time.monotonic() - started, 1)}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000, help="a target, slow ones fewer")
    parser.add_argument("--target", choices=TARGETS, help="only this one, in this process")
    parser.add_argument("--seeds", type=int, default=0, help="seed of the damage")
    parser.add_argument("--out", type=Path, default=Path("fuzz"))
    parser.add_argument("--quick", action="store_true", help="20 cases a target, slow ones fewer")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    cases = 20 if options.quick else options.cases
    if options.target:
        print(json.dumps(run_target(options.target, cases, options.seeds, options.out)))
        return 0
    rows = []
    print(f"{'target':<22}{'cases':>8}{'faults':>8}{'seconds':>9}")
    for name in TARGETS:
        share = max(cases // FEWER.get(name, 1), 1)
        command = [sys.executable, __file__, "--target", name, "--cases", str(share), "--seeds", str(options.seeds),
                   "--out", str(options.out)]  # fmt: skip
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=SLOW_S * share + 600, check=False)
        lines = done.stdout.splitlines()
        row = json.loads(lines[-1]) if done.returncode == 0 else {
            "target": name, "cases": share, "faults": 1, "kinds": {f"the process ended with {done.returncode}": 1},
            "seconds": 0.0}  # fmt: skip
        rows.append(row)
        print(f"{name:<22}{row['cases']:>8}{row['faults']:>8}{row['seconds']:>9.1f}  {row['kinds'] or ''}", flush=True)
    total = {key: sum(row[key] for row in rows) for key in ("cases", "faults")}
    print(f"{'all':<22}{total['cases']:>8}{total['faults']:>8}")
    (options.out / "summary.json").write_text(json.dumps({"seed": options.seeds, "rows": rows} | total, indent=1))
    return 1 if total["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
