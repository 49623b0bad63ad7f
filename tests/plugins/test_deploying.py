"""``nasplug search -s eas --budgets``, and requests as attributes of an Optuna study."""

import json

import numpy as np
import pytest
import torch

from nasplug.images import Images, Split, load_images
from nasplug.images.catalog import DATASETS
from nasplug.plugins.cli.app import run
from nasplug.spaces import Elastic
from nasplug.spaces.modules import complexity
from nasplug.spaces.modules.elastic import network
from nasplug.spaces.modules.layout import ELASTIC_SMALL

SPEC = "eas:images=few,steps=5,generator_steps=2,batch_size=16"
SPACE = Elastic()
CHEAPEST = "k3e1:k3e1:k3e1"


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    digits = load_images("digits")
    parts = [Split(part.images[:80], part.labels[:80]) for part in (digits.train, digits.valid, digits.test)]
    images = Images("few", *parts, classes=10)
    monkeypatch.setitem(DATASETS, "few", lambda root: images)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def tasks(tmp_path):
    path = tmp_path / "tasks.yaml"
    path.write_text("low: [0, 1, 2, 3, 4]\nhigh: [5, 6, 7, 8, 9]\n")
    return str(path)


def search(folder, *more):
    return run(["search", "-s", f"{SPEC},folder={folder}", *more])


def test_a_table_of_every_task_and_budget_and_its_networks(folder, tasks, tmp_path, capsys):
    out, networks = tmp_path / "table.json", tmp_path / "networks"
    given = ("--tasks", tasks, "--budgets", "60000,1000", "--out", str(out), "--export", str(networks))
    assert search(folder, *given) == 0
    shown = capsys.readouterr().out
    assert "high: no architecture costs 1000 or less; shown is the cheapest" in shown
    rows = json.loads(out.read_text())["deployments"]
    assert [(row["task"], row["budget"]) for row in rows] == [
        ("low", 60000), ("low", 1000), ("high", 60000), ("high", 1000),
    ]  # fmt: skip
    for row in rows:
        genotype = SPACE.from_string([row["architecture"]])
        true = complexity.flops(SPACE, genotype, classes=5, in_channels=1, size=8, **ELASTIC_SMALL)[0]
        assert row["predicted"] == row["measured"] == true
        assert row["met"] == (row["budget"] > 1000)
        assert 0 <= row["accuracy"] <= 1
        assert row["split"] == "test"
    assert [row["architecture"] for row in rows[1::2]] == [CHEAPEST] * 2
    assert all(58_000 < row["predicted"] <= 60_000 for row in rows[::2])
    onnxruntime = pytest.importorskip("onnxruntime")
    digits = load_images("few").test.images[:5]
    for i, row in enumerate(rows):
        saved = torch.load(networks / f"{i:02d}-{row['task']}.pt", weights_only=True)
        assert saved["classes"] == row["classes"]
        assert saved["sizes"] == {"classes": 5, "in_channels": 1, **ELASTIC_SMALL}
        assert saved["image"] == [1, 8, 8]
        net = network(SPACE.from_string([saved["architecture"]])[0], **saved["sizes"])
        net.load_state_dict(saved["weights"])
        session = onnxruntime.InferenceSession(str(networks / f"{i:02d}-{row['task']}.onnx"))
        (logits,) = session.run(None, {"images": digits})
        np.testing.assert_allclose(logits, net.eval()(torch.from_numpy(digits)).detach().numpy(), rtol=0, atol=1e-3)


def test_latency_budgets_by_a_model_that_is_measured_here(tmp_path, tasks, capsys):
    rows, model = str(tmp_path / "rows.csv"), str(tmp_path / "model.npz")
    sizes = [part for text in ("stem=8", "widths=8,12,16", "strides=1,2,2") for part in ("--size", text)]
    small = ["--side", "8", "--channels", "1", *sizes, "--spread", "5"]
    assert run(["cost-model", "measure", "elastic", "--out", rows, "--count", "8", *small]) == 0
    assert "stem 8, strides (1, 2, 2), widths (8, 12, 16)" in capsys.readouterr().out
    assert run(["cost-model", "fit", "few-shot", "--data", rows, "--out", model]) == 0
    capsys.readouterr()
    wanted = ("--budgets", "1e-6,1000", "--kind", "latency", "--cost-model", model, "--json")
    assert search(tmp_path / "latency", "--tasks", tasks, "--task", "high", *wanted) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["unit"] == "ms"
    assert [row["met"] for row in report["deployments"]] == [False, True]
    assert all(0 < row["predicted"] < 1000 and row["measured"] > 0 for row in report["deployments"])


def test_one_task_in_parameters_as_json(folder, tasks, capsys):
    assert search(folder, "--tasks", tasks, "--task", "high", "--budgets", "5000", "--kind", "params", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["deployments"]
    assert row["task"] == "high"
    assert row["measured"] == row["predicted"] <= 5000


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--budgets", "0"], "numbers above zero with commas between them, got '0'"),
        (["--budgets", "many"], "numbers above zero"),
        (["--budgets", "1000", "--kind", "joules"], "unknown kind of budget 'joules'"),
        (["--budgets", "1000", "--kind", "latency"], "--kind latency and --cost-model FILE come together"),
        (["--budgets", "1000", "--cost-model", "x.npz"], "come together"),
        (["--budgets", "1000", "--seed", "-1"], "seed of at least 0"),
        (["--budgets", "1000", "--task", "lo"], "unknown task 'lo'"),
        (["--budgets", "1000", "--tasks", "none.yaml"], "cannot read the tasks none.yaml"),
        (["--budgets", "1000", "--budget", "5"], "--budgets asks no table"),
        (["--tasks", "t.yaml"], "belong to --budgets"),
        (["--kind", "params"], "belong to --budgets"),
    ],
)
def test_bad_requests_are_one_line(folder, more, message, capsys):
    assert search(folder, *more) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_an_export_to_where_nothing_can_be_written_is_refused_before_anything_is_trained(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert search(tmp_path / "runs", "--budgets", "60000", "--export", str(tmp_path / "file")) == 2
    assert "cannot write" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_strategy_that_answers_no_requests_is_refused(capsys):
    assert run(["search", "-s", "random", "--budgets", "1000"]) == 2
    assert "such as eas; got 'random'" in capsys.readouterr().err


def test_a_kind_the_generator_does_not_know_is_refused(folder):
    from nasplug.errors import InputError
    from nasplug.registry import configure
    from nasplug.strategies.supernet.deployment import deploy

    strategy = configure("strategy", f"{SPEC},folder={folder}", SPACE)
    with pytest.raises(InputError, match="knows budgets of flops, params, not 'latency'"):
        deploy(strategy.method(0), strategy.groups, ["all"], [1.0], "latency")


def test_an_optuna_study_names_task_and_budget(folder, tasks):
    optuna = pytest.importorskip("optuna")
    from nasplug.plugins.optuna import NasSampler

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = NasSampler(f"{SPEC},folder={folder},tasks={tasks}", space="elastic", seed=0)
    for budget in (60_000.0, 40_000.0, None):
        study = optuna.create_study(sampler=sampler)
        if budget:
            study.set_user_attr("task", "low")
            study.set_user_attr("budget", budget)
        study.optimize(suggested, n_trials=1)
        (row,) = SPACE.from_params([study.trials[0].params])
        cost = complexity.flops(SPACE, row[None], classes=5, in_channels=1, size=8, **ELASTIC_SMALL)[0]
        assert (budget or 1e9) >= cost > 0.95 * (budget or 100_000.0)


def suggested(trial):
    for p in SPACE.parameters:
        trial.suggest_categorical(p.name, p.choices)
    return 0.0
