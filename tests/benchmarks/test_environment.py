import os

from threadpoolctl import threadpool_info

from nasplug.benchmarks import environment


def test_the_code_of_a_strategy_is_all_of_its_package(tmp_path, monkeypatch):
    package = tmp_path / "nasplug_test_package"
    package.mkdir()
    for name, text in (
        ("__init__", ""),
        ("strategy", "from nasplug_test_package import model\n"),
        ("model", "A = 1\n"),
    ):
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    digest = environment.code_digest.__wrapped__
    before = digest("nasplug_test_package.strategy")
    assert digest("nasplug_test_package.strategy") == before
    (package / "model.py").write_text("A = 2\n")
    assert digest("nasplug_test_package.strategy") != before
    assert digest("nasplug.plugins.optuna.peers") != digest("nasplug.strategies.random_search")


def test_one_thread_inside_and_what_was_there_outside(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    outside = threadpool_info()
    assert outside
    with environment.one_thread():
        assert {pool["num_threads"] for pool in threadpool_info()} == {1}
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "2"
    assert "MKL_NUM_THREADS" not in os.environ
    assert threadpool_info() == outside


def test_versions_of_what_is_installed_and_the_machine(monkeypatch):
    monkeypatch.setattr(environment, "LIBRARIES", ("numpy", "no-such-distribution"))
    found = environment.environment()
    assert list(found["libraries"]) == ["numpy"]
    assert found["cpu_count"] == os.cpu_count()
    assert found["memory_gib"] > 0
