"""Search a table in an Optuna study and photograph optuna-dashboard's page of it: how the picture of the docs is made.

    python benchmarks/reproduce/dashboard_screenshot.py docs/dashboard.png

Needs optuna-dashboard, Chromium with its driver (Debian: ``apt-get install chromium chromium-driver``) and selenium.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from webpages import free_port, photograph, wait_for

from nasplug.plugins.optuna import NasSampler
from nasplug.plugins.optuna.problem import TableProblem


def searched(storage: str, trials: int) -> optuna.Study:
    """Return a study of that many trials of ``weaknas`` on NAS-Bench-201's CIFAR-10, in a storage."""
    sampler = NasSampler("weaknas", space="nasbench201", seed=0)
    study = optuna.create_study(
        storage=storage, study_name="nasbench201-cifar10", direction="maximize", sampler=sampler
    )
    study.optimize(TableProblem("nasbench201-cifar10"), n_trials=trials)
    return study


@contextmanager
def dashboard(storage: str) -> Iterator[str]:
    """Serve a storage on the loopback; yields the address of its page."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("optuna-dashboard")), storage, "--port", str(port), "--quiet"]
    server = subprocess.Popen([*command, "--server", "wsgiref"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}/dashboard"
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """Search, serve, take the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--trials", type=int, default=60)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{Path(folder) / 'study.db'}"
        best = searched(storage, options.trials).best_trial
        with dashboard(storage) as page:
            photograph(f"{page}/studies/1/trials?numbers={best.number}", options.picture, until="architecture")
    print(options.picture)


if __name__ == "__main__":
    main()
