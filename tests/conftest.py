"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

REFERENCE_VARIABLE = "NASPLUG_REFERENCE_DATA"


def _reference_folder() -> Path | None:
    given = os.environ.get(REFERENCE_VARIABLE)
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of real tables; a test that needs it is marked ``reference`` and says when it is skipped."""
    folder = _reference_folder()
    if folder is None:
        pytest.skip(
            f"no reference tables: set {REFERENCE_VARIABLE} to the folder that holds nasbench201/, nasbench_macro/, ..."
        )
    return folder


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never see, and never write, the tables of the person who runs them."""
    monkeypatch.setenv("NASPLUG_DATA", str(tmp_path_factory.getbasetemp() / "nasplug-data"))
