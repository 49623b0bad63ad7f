"""Every example runs."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
NEEDS = {"nni_nas": ("nni", "pytorch_lightning", "peewee")}
"""Packages of an extra that the tests do without."""
TABLES = {"optuna_pruning": "curve_table"}
"""Fixtures of the tables that stand in for those an example opens by name, where these are not built in everywhere."""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    for package in NEEDS.get(path.stem, ()):
        if find_spec(package) is None:
            pytest.skip(f"the example needs the package {package}")
    tables = [str(request.getfixturevalue(TABLES[path.stem]))] if path.stem in TABLES else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, str(path), *tables], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
