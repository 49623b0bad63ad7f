"""Run NNI experiments that leave nothing behind: a home, a configuration folder and a port of their own.

Used by nni_dispatch.py and by the tests of the NNI plugin.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from webpages import free_port

_PATIENT = (
    "from nni.experiment import launcher; from nni.tools.nnictl import nnictl; "
    "launcher._check_rest_server.__defaults__ = (60, None); nnictl.parse_args()"
)
NNICTL = [sys.executable, "-c", _PATIENT]
"""NNI's command, which waits a minute for its own manager and not three seconds: a busy machine needs more."""


class Experiment:
    """One experiment under ``folder``, started by ``nnictl create`` from a configuration file; stop it with ``with``.

    Args:
        folder: holds home, experiments and NNI's configuration.
        config: NNI's configuration, or its file (with its own relative paths).
        limits: entries that replace those of the configuration.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any] | Path, **limits: Any):
        self.folder = folder
        self.port = free_port()
        self.id = ""
        home, work = folder / "home", folder / "experiments"
        for made in (home, work, folder / "nni"):
            made.mkdir(parents=True, exist_ok=True)
        self.environment = {
            **os.environ,
            "HOME": str(home),
            "NNI_CONFIG_DIR": str(folder / "nni"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        }
        where = folder if isinstance(config, Mapping) else config.parent
        loaded = dict(config) if isinstance(config, Mapping) else yaml.safe_load(config.read_text())
        loaded = {"trainingService": {"platform": "local"}, "trialCodeDirectory": ".", **loaded, **limits}
        loaded["experimentWorkingDirectory"] = str(work)
        for key in ("trialCodeDirectory", "searchSpaceFile"):
            if key in loaded:
                loaded[key] = str((where / loaded[key]).resolve())
        self.path = folder / "config.yml"
        self.path.write_text(yaml.safe_dump(loaded))

    def __enter__(self) -> Experiment:
        return self

    def __exit__(self, *_: object) -> None:
        if self.id:
            self.stop()

    def nnictl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run nnictl in this experiment's home."""
        return subprocess.run(
            [*NNICTL, *arguments], env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=250
        )

    def nasplug(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run nasplug in this experiment's home."""
        command = [sys.executable, "-c", "from nasplug.plugins.cli import main; main()", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=250)

    def create(self, port: int | None = None) -> Experiment:
        """Start; raises RuntimeError with nnictl's own words."""
        self.port = port or self.port
        done = self.nnictl("create", "--config", str(self.path), "--port", str(self.port))
        found = re.search(r"Experiment ID: \S*?(\w{8})\b", re.sub(r"\x1b\[\d*m", "", done.stdout))
        if done.returncode or found is None:
            raise RuntimeError(f"nnictl create ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        self.id = found[1]
        return self

    def resume(self) -> Experiment:
        """Start again what was stopped or killed."""
        self.port = free_port()
        done = self.nnictl("resume", self.id, "--port", str(self.port))
        if done.returncode:
            raise RuntimeError(f"nnictl resume ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return self

    def stop(self) -> None:
        """Stop, by id."""
        self.nnictl("stop", self.id)

    def kill(self) -> None:
        """End the manager without a chance to clean up, and with it the dispatcher and its trials."""
        pids = [self._known()["pid"], *self._children(self._known()["pid"])]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        # Until they are collected, too: nnictl takes a process that is dead and not yet collected for a running one.
        deadline = time.monotonic() + 20
        while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.1)

    def _known(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "home/nni-experiments/.experiment").read_text())[self.id]
        return found

    def _children(self, pid: int) -> list[int]:
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
        return [one for child in map(int, listed) for one in (child, *self._children(child))]

    @property
    def root(self) -> Path:
        """The experiment's folder."""
        return self.folder / "experiments" / self.id

    @property
    def url(self) -> str:
        """NNI's web page."""
        return f"http://localhost:{self.port}"

    def rest(self, path: str) -> Any:
        """Ask NNI's REST interface."""
        with urllib.request.urlopen(f"{self.url}/api/v1/nni{path}", timeout=20) as answer:
            return json.load(answer)

    def status(self) -> str:
        """Return the experiment's status."""
        return str(self.rest("/check-status")["status"])

    def wait(self, *wanted: str, timeout_s: float = 250) -> str:
        """Return the status once it is one of those wanted; raises TimeoutError with the logs."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            status = self.status()
            if status in wanted:
                return status
            time.sleep(0.3)
        raise TimeoutError(f"status {self.status()}, waited for {wanted}\n{self.log()[-3000:]}")

    def wait_for(self, jobs: int, status: str = "SUCCEEDED", timeout_s: float = 250) -> list[dict[str, Any]]:
        """Return the trial jobs of a status once there are so many."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            found: list[dict[str, Any]] = [job for job in self.rest("/trial-jobs") if job["status"] == status]
            if len(found) >= jobs:
                return found
            time.sleep(0.3)
        raise TimeoutError(f"waited for {jobs} jobs {status}\n{self.log()[-3000:]}")

    def log(self, name: str = "dispatcher.log") -> str:
        """Return one of the experiment's logs, empty where there is none."""
        path = self.root / "log" / name
        return path.read_text() if path.exists() else ""


def wrong_pairs(export: list[dict[str, Any]], same: Callable[[Any, Any], bool]) -> int:
    """Return how many results NNI's own export pairs with parameters that the trial did not run.

    Args:
        export: what ``/export-data`` answers; each trial reported its architecture.
        same: whether parameters and the architecture that a trial reported are one.
    """
    return sum(not same(one["parameter"], json.loads(one["value"])["architecture"]) for one in export)
