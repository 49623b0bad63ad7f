"""What optuna-dashboard's page shows of a study over a table, looked at in a browser."""

import shutil
import sys
from pathlib import Path

import pytest

pytest.importorskip("optuna_dashboard", reason="needs optuna-dashboard: pip install optuna-dashboard")
pytest.importorskip("selenium", reason="needs selenium: pip install selenium")
if not (shutil.which("chromium") and shutil.which("chromedriver")):
    pytest.skip("needs Chromium: apt-get install chromium chromium-driver", allow_module_level=True)

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "reproduce"))
from dashboard_screenshot import dashboard, searched  # type: ignore
from webpages import photograph  # type: ignore


def test_a_trial_shows_its_architecture_what_is_reported_and_what_it_costs(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    best = searched(storage, trials=12).best_trial
    with dashboard(storage) as page:
        address = f"{page}/studies/1/trials?numbers={best.number}"
        text = photograph(address, tmp_path / "trial.png", until=best.user_attrs["architecture"])
    assert "Best Trial" in text
    for name in ("valid@200:others", "latency_ms", "params", "train_s"):
        assert f"{name} {best.user_attrs[name]}" in text
    assert str(best.value) in text
    assert (tmp_path / "trial.png").stat().st_size > 20_000
