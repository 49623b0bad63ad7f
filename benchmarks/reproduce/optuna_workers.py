"""NasSampler in many processes on one study: nothing twice, nothing lost, whatever is killed; and what a trial costs.

    python benchmarks/reproduce/optuna_workers.py [--workers 8] [--trials 5000] [--kills 20] [--out DIR] [--quick]

Needs ``pip install psycopg2-binary grpcio protobuf`` and PostgreSQL's programs (Debian: postgresql); as root, the
server runs as user ``postgres``. Everything is started here, on loopback, and ended here.

1. ``faults``: workers share a study of ``weaknas`` on NAS-Bench-201 (one integer a trial) on a PostgreSQL server.
   Workers are killed (SIGKILL) at even distances, and started again; half-way the server restarts under them. Trials of
   dead workers are found by Optuna's heartbeat and tried again. The same on Optuna's gRPC proxy in front of the server
   and on a journal file, shorter; these have no heartbeat, so trials of killed workers stay "running" there. Printed:
   trials completed, failed by heartbeat and retried, still open, and architectures that two trials have which are no
   retry of each other. A trial that was killed before its first heartbeat stays open: Optuna does not look for it. Such
   a trial has no parameter yet, so no architecture is lost; "empty" counts them.
2. ``time``: milliseconds of ``study.ask()`` and ``suggest_int`` by workers and length of the study on PostgreSQL,
   median over all workers, without the first one, which reads the whole study. Every cell begins with a copy of one
   database. The machine is kept busy by all workers at once, TPE's likewise.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState

from nasplug.benchmarks.environment import environment
from nasplug.plugins.optuna import NasSampler
from nasplug.plugins.optuna.problem import TableProblem

TABLE = "nasbench201-cifar10"
NAME = "cells"
HEARTBEAT_S, GRACE_S = 2, 8
SUGGESTIONS = 15

SAMPLERS = {
    "weaknas": lambda seed: NasSampler("weaknas", space="nasbench201", compact=True, seed=seed),
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, constant_liar=True),
}


# -- servers -----------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Postgres:
    """A server of its own in a folder of its own."""

    def __init__(self, folder: Path):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [os.path.dirname(shutil.which("initdb") or "")]
        self._programs, self._folder, self.port = Path(found[-1]), folder, free_port()
        if not (self._programs / "initdb").exists():
            sys.exit("PostgreSQL's initdb is not here; install the package postgresql")
        folder.mkdir(parents=True)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        self._run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "nasplug", "-E", "UTF8")
        self.control("start")

    def _run(self, program: str, *arguments: str) -> None:
        user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        subprocess.run(
            [str(self._programs / program), *arguments],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self._folder, **user,
        )  # fmt: skip

    def control(self, what: str) -> None:
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c max_connections=200"
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-w", "-m", "fast", "-o", options,
                  "-l", str(self._folder / "log"), what)  # fmt: skip

    def create(self, name: str, template: str = "template1") -> str:
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "nasplug", "-T", template, name)
        return f"postgresql+psycopg2://nasplug@127.0.0.1:{self.port}/{name}"


def opened(where: str) -> BaseStorage:
    """Return a storage: ``grpc://port``, ``journal://path`` or a database's address."""
    kind, _, rest = where.partition("://")
    if kind == "grpc":
        return optuna.storages.GrpcStorageProxy(host="127.0.0.1", port=int(rest))
    if kind == "journal":
        return JournalStorage(JournalFileBackend(rest))
    return RDBStorage(
        where,
        heartbeat_interval=HEARTBEAT_S,
        grace_period=GRACE_S,
        heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
    )


# -- what a worker does ------------------------------------------------------------------------------------------------


def work(where: str, count: str, goal: int) -> None:
    """Add trials until the study has as many as asked for, leaving a mark in a file for each."""
    study = optuna.load_study(study_name=NAME, storage=opened(where), sampler=SAMPLERS["weaknas"](None))
    problem = TableProblem(TABLE, compact=True)
    marks = os.open(count, os.O_WRONLY | os.O_APPEND)
    study.optimize(
        problem,
        callbacks=[
            lambda study, trial: os.write(marks, b".") and None,
            MaxTrialsCallback(goal, states=(TrialState.COMPLETE,)),
        ],
    )


def timed(where: str, sampler: str, gate: str) -> None:
    """Print the milliseconds of suggestions, the first one first, once everybody is ready."""
    study = optuna.load_study(study_name=NAME, storage=RDBStorage(where), sampler=SAMPLERS[sampler](None))
    problem, took = TableProblem(TABLE, compact=True, attributes=()), []
    size = problem.benchmark.space.size
    for number in range(SUGGESTIONS + 1):
        if number == 1:
            Path(f"{gate}.{os.getpid()}").touch()
            while not Path(gate).exists():
                time.sleep(0.01)
        started = time.perf_counter()
        trial = study.ask()
        trial.suggest_int("architecture", 0, size - 1)
        took.append(1e3 * (time.perf_counter() - started))
        study.tell(trial, problem(trial))
    print(json.dumps(took))


# -- 1. faults ---------------------------------------------------------------------------------------------------------


def start(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "ignore", str(Path(__file__).resolve()), *arguments]
    quiet: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, **quiet)


def faults(where: str, folder: Path, workers: int, goal: int, kills: int, server: Postgres | None) -> dict[str, Any]:
    """Run a study to its end, killing workers on the way; return what became of its trials."""
    kind = where.partition("://")[0].partition("+")[0]
    optuna.create_study(study_name=NAME, storage=opened(where), direction="maximize")
    count = folder / f"{kind}.count"
    count.touch()
    arguments = ("--work", where, str(count), str(goal))
    rng, begun = random.Random(0), time.perf_counter()
    running = [start(*arguments) for _ in range(workers)]
    killed = died = 0
    restarted = server is None
    while True:
        time.sleep(0.1)
        done = count.stat().st_size
        if not restarted and done > goal // 2:
            assert server is not None
            server.control("restart")
            restarted = True
        if killed < kills and done > (killed + 1) * goal // (kills + 2):
            victim = rng.choice([one for one in running if one.poll() is None] or running)
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            killed += 1
        ended = [one for one in running if one.poll() is not None]
        if any(one.returncode == 0 for one in ended) and killed == kills:
            break
        for one in ended:
            died += one.returncode not in (0, -signal.SIGKILL)
            running[running.index(one)] = start(*arguments)
    for one in running:
        one.wait()
    took_s = time.perf_counter() - begun
    storage = opened(where)
    if isinstance(storage, RDBStorage):  # those of the last killed workers
        time.sleep(GRACE_S)
        for _ in range(2 * workers):
            study = optuna.load_study(study_name=NAME, storage=storage, sampler=SAMPLERS["weaknas"](0))
            study.optimize(TableProblem(TABLE, compact=True), n_trials=1)
            if all(trial.state.is_finished() for trial in study.get_trials(deepcopy=False)):
                break
    trials = optuna.load_study(study_name=NAME, storage=storage).get_trials(deepcopy=False)
    states = Counter(trial.state.name for trial in trials)
    retried = {trial.system_attrs.get("failed_trial") for trial in trials if trial.state == TrialState.COMPLETE}
    stale = [trial.number for trial in trials if trial.state == TrialState.FAIL]
    first = Counter(
        trial.params["architecture"]
        for trial in trials
        if "failed_trial" not in trial.system_attrs and "architecture" in trial.params
    )
    held = sorted(trial.number for trial in trials)
    row = {
        "storage": kind,
        "workers": workers,
        "killed": killed,
        "ended_by_restart": died,
        "trials": len(trials),
        "complete": states["COMPLETE"],
        "failed_by_heartbeat": len(stale),
        "of_these_retried_and_complete": len(set(stale) & retried),
        "open": states["RUNNING"] + states["WAITING"],
        "open_and_empty": sum(not trial.state.is_finished() and not trial.params for trial in trials),
        "repeated_architectures": sum(n - 1 for n in first.values()),
        "numbers_without_gap": held == list(range(len(held))),
        "trials_per_s": len(trials) / took_s,
        "best": max(trial.value for trial in trials if trial.value is not None),
    }
    print(f"{kind:<12}{workers:>9}{killed:>8}{died:>9}{row['complete']:>10}{len(stale):>8}"
          f"{row['of_these_retried_and_complete']:>9}{row['open']:>6}{row['open_and_empty']:>7}{row['repeated_architectures']:>10}"
          f"{row['trials_per_s']:>10.1f}", flush=True)  # fmt: skip
    return row


def proxied(where: str, port: int) -> None:
    """Serve a storage by gRPC until killed."""
    optuna.storages.run_grpc_proxy_server(opened(where), host="127.0.0.1", port=port)


def all_faults(server: Postgres, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    print(f"{'storage':<12}{'workers':>9}{'killed':>8}{'by rest.':>9}{'complete':>10}{'failed':>8}{'retried':>9}"
          f"{'open':>6}{'empty':>7}{'repeated':>10}{'trials/s':>10}", flush=True)  # fmt: skip
    short = max(options.trials // 10, 20)
    rows = [faults(server.create("faults"), folder, options.workers, options.trials, options.kills, server)]
    port = free_port()
    proxy = start("--proxy", server.create("proxied"), str(port))
    try:
        for _ in range(100):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        rows.append(faults(f"grpc://{port}", folder, options.workers, short, options.kills // 10, None))
    finally:
        proxy.terminate()
        proxy.wait()
    journal = f"journal://{folder / 'journal.log'}"
    rows.append(faults(journal, folder, options.workers, short, options.kills // 10, None))
    return rows


# -- 2. time -----------------------------------------------------------------------------------------------------------


def times(server: Postgres, folder: Path, lengths: Sequence[int], counts: Sequence[int]) -> list[dict[str, Any]]:
    """Return a row a sampler, length and number of workers."""
    problem = TableProblem(TABLE, compact=True)
    benchmark = problem.benchmark
    size = benchmark.space.size
    base = server.create("base")
    backing = RDBStorage(base)
    study = optuna.create_study(study_name=NAME, storage=backing, direction="maximize")
    rng = np.random.default_rng(0)
    values = benchmark.labels(benchmark.space.all(), benchmark.search, run=0)
    held = np.concatenate([rng.permutation(size), rng.integers(size, size=max(lengths))])  # repeats beyond the space
    distribution = {"architecture": optuna.distributions.IntDistribution(0, size - 1)}
    print(f"\n{'trials':>8}{'workers':>9}" + "".join(f"{name + ' ms':>14}" for name in SAMPLERS)
          + "".join(f"{name + ' first':>16}" for name in SAMPLERS), flush=True)  # fmt: skip
    rows: list[dict[str, Any]] = []
    done = 0
    for length in lengths:
        study.add_trials(
            [
                optuna.create_trial(
                    params={"architecture": int(row)}, distributions=distribution, value=float(values[row])
                )
                for row in held[done:length]
            ]
        )
        done = length
        backing.remove_session()
        backing.engine.dispose()  # a database that somebody is connected to cannot be copied
        for workers in counts if length == lengths[len(lengths) // 2] else (counts[0], counts[-1]):
            cell: dict[str, Any] = {"trials": length, "workers": workers}
            for sampler in SAMPLERS:
                name = f"{sampler}_{length}_{workers}"
                where, gate = server.create(name, "base"), str(folder / name)
                running = [start("--timed", where, sampler, gate) for _ in range(workers)]
                while len(glob.glob(f"{gate}.*")) < workers:
                    time.sleep(0.05)
                Path(gate).touch()
                took = np.array([json.loads(one.communicate()[0]) for one in running])
                first = took[:, 0].mean()
                cell |= {
                    f"{sampler}_ms": float(np.median(took[:, 1:])),
                    f"{sampler}_first_ms": float(first),
                }
            rows.append(cell)
            print(f"{length:>8}{workers:>9}" + "".join(f"{cell[f'{name}_ms']:>14.1f}" for name in SAMPLERS)
                  + "".join(f"{cell[f'{name}_first_ms']:>16.0f}" for name in SAMPLERS), flush=True)  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("optuna_workers"))
    parser.add_argument("--quick", action="store_true", help="120 trials, 2 kills, short studies: too few to judge")
    parser.add_argument("--part", choices=("faults", "time"), help="only this part")
    for name, values in {"work": 3, "timed": 3, "proxy": 2}.items():
        parser.add_argument(f"--{name}", nargs=values, help=argparse.SUPPRESS)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    if options.work:
        return work(options.work[0], options.work[1], int(options.work[2]))
    if options.timed:
        return timed(*options.timed)
    if options.proxy:
        return proxied(options.proxy[0], int(options.proxy[1]))
    lengths: tuple[int, ...] = (100, 1_000, 5_000, 20_000)
    counts: tuple[int, ...] = (1, 2, 4, 8)
    if options.quick:
        options.trials, options.kills, lengths, counts = 120, 2, (100, 300), (1, 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # the server's user looks into it
        server = Postgres(folder / "server")
        try:
            rows = all_faults(server, folder, options) if options.part != "time" else []
            cells = times(server, folder, lengths, counts) if options.part != "faults" else []
        finally:
            server.control("stop")
    options.out.mkdir(parents=True, exist_ok=True)
    summary = {"faults": rows, "times": cells, "environment": environment()}
    (options.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
