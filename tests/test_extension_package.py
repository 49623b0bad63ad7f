"""A package of somebody else's adds a strategy and a space: installed with pip, found by the command line."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "examples" / "own_strategy_package"

TABLE = """
import sys
from pathlib import Path

import numpy as np
from nasplug import registry

space = registry.load("space", "encoder")()
rows = space.all()
value = 0.5 + 0.05 * rows[:, 0] + 0.02 * rows[:, 1] + 0.01 * rows[:, 2]
lines = [f'"{text.replace(chr(34), chr(34) * 2)}",{v:.3f}' for text, v in zip(space.to_string(rows), value)]
Path(sys.argv[1]).write_text("\\n".join(["architecture,valid", *lines]))
print(len(rows), value.max())
"""


SEARCH = ("search", "-b")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip put the package into; built from a copy, as a build writes beside its source."""
    folder = tmp_path_factory.mktemp("extension")
    copy = shutil.copytree(
        SOURCE, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    )
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(folder / "site"), str(copy)], check=True)
    return folder / "site"


NASPLUG = str(Path(sysconfig.get_path("scripts"), "nasplug"))


def ended(installed: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed), "NASPLUG_DATA": str(folder / "data")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


def run(installed: Path, folder: Path, *command: str) -> str:
    done = ended(installed, folder, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_listed_with_its_options(installed: Path, tmp_path: Path) -> None:
    listed = json.loads(run(installed, tmp_path, NASPLUG, "list", "--json"))
    assert "encoder" in [one["name"] for one in listed["spaces"]]
    (own,) = [one for one in listed["strategies"] if one["name"] == "marginals"]
    assert own["options"] == {"elite": 0.2, "uniform": 0.1, "initial": 10}


def test_searches_a_table_over_its_own_space(installed: Path, tmp_path: Path) -> None:
    rows, best = run(installed, tmp_path, sys.executable, "-c", TABLE, "encoder.csv").split()
    assert int(rows) == 6 * (4 + 6 + 4 + 6)  # layers x heads that divide each width
    columns = ["--arch-column", "architecture", "--metric", "valid=valid"]
    run(installed, tmp_path, NASPLUG, "data", "add", "encoder.csv", "--space", "encoder", *columns, "--name", "mine")
    found = json.loads(
        run(installed, tmp_path, NASPLUG, *SEARCH, "mine", "-s", "marginals", "--budget", "60", "--json")
    )
    assert found["recommendation"]["value"] == pytest.approx(float(best))


def test_better_than_random_and_its_options_checked(installed: Path, tmp_path: Path, small_table: Path) -> None:
    def value(strategy: str) -> float:
        table = [*SEARCH, str(small_table), "-s", strategy]
        return float(
            json.loads(run(installed, tmp_path, NASPLUG, *table, "--budget", "80", "--json"))["recommendation"]["value"]
        )

    assert value("marginals") > value("random") + 0.01
    bad = ended(installed, tmp_path, NASPLUG, *SEARCH, str(small_table), "-s", "marginals:elite=2.0", "--budget", "5")
    assert bad.returncode == 2
    assert "elite" in bad.stderr
