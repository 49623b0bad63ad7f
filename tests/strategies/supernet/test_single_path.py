"""Single-Path NAS as a strategy: budgets met, runs resumed, winners exported, bad input refused."""

import json
import pickle

import numpy as np
import pytest
import torch

from nasplug import registry
from nasplug.cost_models.constraint import affordable
from nasplug.cost_models.lookup import Lookup
from nasplug.errors import InputError, TrainingError, UnknownNameError
from nasplug.spaces import NASBench201, NASBenchMacro, SinglePathDigits, SinglePathImageNet
from nasplug.spaces.modules import complexity
from nasplug.spaces.modules.layout import MACRO_SMALL
from nasplug.spaces.modules.onnx_files import note_of
from nasplug.strategies import History, trial_rng
from nasplug.strategies.supernet.priced import Price
from nasplug.strategies.supernet.single_path import SinglePathNAS
from nasplug.strategies.supernet.superkernels import nearest

MACRO, DIGITS, IMAGENET = NASBenchMacro(), SinglePathDigits(), SinglePathImageNet()
QUICK = "single-path:images=few,epochs=3"

pytestmark = pytest.mark.usefixtures("few")


def built(spec, space=MACRO):
    return registry.configure("strategy", spec, space)


def selections(strategy, seed=0):
    run = strategy.run(seed)
    return [run.selection(stage) for stage in range(run.stages)]


def megaflops(genotypes):
    return complexity.flops(MACRO, genotypes, size=8, **MACRO_SMALL, in_channels=1) / 1e6


# -- targets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0.09, 0.18])
def test_a_target_is_met_from_below(target):
    strategy = built(f"{QUICK},target={target}")
    found = selections(strategy)
    assert [len(one.ranking) > 0 for one in found] == [False, False, True]  # behind the warm-up
    costs = megaflops(found[-1].ranking)
    assert 0.95 * target <= costs[0] <= target
    assert (costs <= target).all()
    assert found[-1].facts["selected_cost"] == pytest.approx(costs[0])
    assert (
        len(np.unique(MACRO.keys(found[-1].ranking)))
        == len(found[-1].ranking)
        == min(1000, (megaflops(strategy.reachable.all()) <= target).sum())
    )


def test_lambda_follows_the_target():
    lambdas = {}
    for target in (0.06, 0.22):
        strategy = built(f"single-path:images=few,epochs=4,warm_up=0.25,target={target}")
        facts = [one.facts for one in selections(strategy)]
        lambdas[target] = [one["lambda"] for one in facts]
        assert facts[0]["lambda"] == 1.0  # no price in the warm-up
    assert np.diff(lambdas[0.06])[-1] > 0  # everything stays, and costs more than that
    assert lambdas[0.06][-1] > lambdas[0.22][-1]


def test_a_budget_of_the_space_is_the_target():
    model = Lookup(space=MACRO).fit(MACRO.all(), megaflops(MACRO.all()) + 1)
    part = affordable(MACRO, model, 1.15)
    strategy = built(QUICK, part)
    last = selections(strategy)[-1]
    cost = model.predict(last.ranking[:1])[0]
    assert 0.95 * 1.15 <= cost <= 1.15
    history = History.empty(part)
    (first,) = strategy.propose(history, 1, trial_rng(0, 0))
    np.testing.assert_array_equal(first, last.ranking[0])
    assert built(QUICK, affordable(MACRO, model, 1e3)).aimed(Price(MACRO, model.predict)) == pytest.approx(
        model.predict(MACRO.all()).max()
    )
    assert built(QUICK, part).run(0).folder != built(QUICK, affordable(MACRO, model, 1.2)).run(0).folder


def test_a_ready_cost_model_is_named():
    strategy = built("single-path:images=few,epochs=2,cost_model=pixel1,target=80", IMAGENET)
    price = strategy.price(strategy.data_set)
    assert strategy.aimed(price) == 80
    last = selections(strategy)[-1]
    assert 76 <= last.facts["selected_cost"] <= 80
    assert IMAGENET.valid(last.ranking).all()


def test_without_a_target_lambda_stays():
    for spec in (f"{QUICK},trade_off=0.01", QUICK):
        facts = [one.facts for one in selections(built(spec))]
        assert {one["lambda"] for one in facts} == {0.01 if "trade" in spec else 1.0}
        assert facts[-1]["selected_cost"] == facts[-1]["cost"]


def test_a_higher_price_buys_cheaper_networks():
    def cost(trade_off):
        spec = f"single-path:images=few,epochs=6,warm_up=0.2,threshold_rate=0.1,trade_off={trade_off}"
        return selections(built(spec, DIGITS))[-1].facts["cost"]

    assert cost(0.0) > cost(1.0)


@pytest.mark.parametrize("warm_up", [0.0, 0.9])
def test_the_last_epoch_is_never_a_warm_up(warm_up):
    found = selections(built(f"{QUICK},warm_up={warm_up},target=0.13"))
    assert [len(one.ranking) > 0 for one in found] == [warm_up == 0.0, warm_up == 0.0, True]
    assert found[-1].facts["lambda"] != 1.0


def test_behind_what_is_decided_come_those_that_were_taken_most_often():
    strategy = built(f"{QUICK},trade_off=0.01")
    last = selections(strategy)[-1]
    method = strategy.run(0).method()
    np.testing.assert_array_equal(last.ranking[0], method.net.genotype())
    scores = sum(np.log(one[last.ranking[1:, site]]) for site, one in enumerate(method.frequencies()))
    assert (np.diff(scores) <= 1e-9).all()
    assert len(last.ranking) == 1000


def test_what_follows_the_ranking_keeps_the_target():
    model = registry.configure("cost model", "pixel1", IMAGENET)
    strategy = built("single-path:images=few,epochs=2,cost_model=pixel1,target=80", IMAGENET)
    rows = strategy.propose(History.empty(IMAGENET), 150, trial_rng(0, 0))
    assert len(np.unique(IMAGENET.keys(rows))) == 150
    assert (model.predict(rows) <= 80).all()


def test_an_optuna_study_asks_it():
    optuna = pytest.importorskip("optuna")
    from nasplug.plugins.optuna import NasSampler

    strategy = built(f"{QUICK},target=0.13")
    study = optuna.create_study(sampler=NasSampler(strategy, seed=0))
    names = {p.name: list(p.choices) for p in MACRO.parameters}
    study.optimize(lambda t: float(len([t.suggest_categorical(n, c) for n, c in names.items()])), n_trials=3)
    rows = MACRO.from_params([trial.params for trial in study.trials])
    assert len(np.unique(MACRO.keys(rows))) == 3
    assert (megaflops(rows) <= 0.13).all()


# -- the likeliest within a target -------------------------------------------------------------------------------------


def test_nearest_finds_the_best_of_all_in_an_enumerable_space():
    rng = np.random.default_rng(0)
    likely = [rng.dirichlet(np.ones(3)) for _ in range(8)]
    price = Price(MACRO, lambda rows: complexity.flops(MACRO, rows) / 1e6)
    ranking = nearest(price, likely, 50.0, 0.05)
    costs = price.of(MACRO.all())
    scores = np.log([likely[i] for i in range(8)])[np.arange(8), MACRO.all()].sum(axis=1)
    window = (costs <= 50) & (costs >= 47.5)
    assert MACRO.keys(ranking[:1])[0] == MACRO.keys(MACRO.all()[window])[scores[window].argmax()]
    assert len(ranking) == (costs <= 50).sum()


@pytest.mark.parametrize("target", [35.0, 60.0, 80.0, 120.0])
def test_nearest_reaches_the_target_where_no_one_can_look_at_all(target):
    model = registry.configure("cost model", "pixel1", IMAGENET)
    price = Price(IMAGENET, model.predict)
    likely = [np.random.default_rng(site).dirichlet(np.ones(k)) for site, k in enumerate(IMAGENET.n_choices)]
    ranking = nearest(price, likely, target, 0.05)
    assert 0.95 * target <= model.predict(ranking[:1])[0] <= target
    with pytest.raises(InputError, match="costs at most 20; 3"):
        nearest(price, likely, 20.0, 0.05)


def test_what_is_likely_and_affordable_is_left_alone():
    price = Price(MACRO, lambda rows: complexity.flops(MACRO, rows) / 1e6)
    row = MACRO.from_string(["21120200"])[0]
    likely = [np.where(np.arange(3) == code, 0.9, 0.05) for code in row]
    cost = price.of(row[None])[0]
    np.testing.assert_array_equal(nearest(price, likely, cost * 1.01, 0.05)[0], row)


# -- runs --------------------------------------------------------------------------------------------------------------


def test_a_resumed_run_is_the_same_bit_for_bit(tmp_path):
    states = []
    for name in ("whole", "pieces"):
        spec = f"{QUICK},target=0.13,folder={tmp_path / name}"
        strategy = built(spec)
        for stage in range(3):
            strategy.run(5).selection(stage)
            if name == "pieces":
                strategy = pickle.loads(pickle.dumps(built(spec)))
        folder = strategy.run(5).folder
        states.append(
            (
                [json.loads((folder / f"stage-000{i}.json").read_text()) for i in range(3)],
                torch.load(folder / "checkpoint.pt", weights_only=True),
            )
        )
    (facts, whole), (again, pieces) = states
    assert facts == again
    assert all(torch.equal(whole["net"][key], pieces["net"][key]) for key in whole["net"])
    assert whole["trade_off"] == pieces["trade_off"]
    assert all(torch.equal(a, b) for a, b in zip(whole["seen"], pieces["seen"], strict=True))


def test_another_seed_is_another_run_and_the_global_stream_stays():
    before = torch.get_rng_state()
    one, other = (selections(built(f"{QUICK},target=0.13"), seed)[-1].facts for seed in (0, 1))
    assert one["train_loss"] != other["train_loss"]
    assert torch.equal(torch.get_rng_state(), before)


def test_reporting_leaves_the_supernet_as_it_was():
    strategy = built(f"{QUICK},target=0.13")
    selections(strategy)
    method = strategy.run(0).method()
    before = {name: value.clone() for name, value in method.net.state_dict().items()}
    first = method.held_out(np.full(8, 2))
    assert first == method.held_out(np.full(8, 2))
    assert 0 <= first <= 1
    assert all(torch.equal(value, before[name]) for name, value in method.net.state_dict().items())
    assert all(gate.forced is None for gate in method.net.gates.values())


def test_a_loss_that_is_no_number_ends_the_run():
    with pytest.raises(TrainingError, match="the loss of the supernet became"):
        selections(built(f"{QUICK},learning_rate=1e30,target=0.13"))


# -- the winner --------------------------------------------------------------------------------------------------------


def test_search_and_export_in_one(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "winner.onnx"
    strategy = built(f"{QUICK},target=0.13,export={path}")
    (first,) = strategy.propose(History.empty(MACRO), 1, trial_rng(0, 0))
    np.testing.assert_array_equal(first, strategy.selected(0))
    images = torch.from_numpy(strategy.data_set.test.images[:5])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": images.numpy()})
    net = strategy.winner(0)
    with torch.no_grad():
        np.testing.assert_allclose(logits, net(images), atol=1e-4)
    assert (
        sum(p.numel() for p in net.parameters())
        == complexity.params(MACRO, first[None], **MACRO_SMALL, in_channels=1)[0]
    )
    written = path.stat().st_mtime_ns
    strategy.propose(History.empty(MACRO), 1, trial_rng(0, 0))
    assert path.stat().st_mtime_ns == written
    strategy.propose(History.empty(MACRO), 1, trial_rng(1, 0))  # another run's network takes its place
    assert note_of(path) == f"{strategy.run(1).folder.name} {MACRO.to_string(strategy.selected(1)[None])[0]}"
    path.write_bytes(b"no network")
    assert note_of(path) == ""


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0.01, 5.0])
def test_a_target_that_no_network_costs_names_the_range(target):
    rows = MACRO.all()
    for option, held in (("false", rows[(rows[:, [0, 2, 5]] > 0).all(axis=1)]), ("true", rows)):
        costs = megaflops(held)
        with pytest.raises(InputError, match=rf"cost between {costs.min():.4g} and {costs.max():.4g}"):
            selections(built(f"{QUICK},target={target},skip_resizing={option}"))


def test_cost_models_of_other_spaces_or_unfitted_ones_are_refused():
    with pytest.raises(InputError, match="holds the kernels of 'single-path-imagenet' and none of 'nasbench-macro'"):
        selections(built(f"{QUICK},target=50,cost_model=pixel1"))
    with pytest.raises(InputError, match="'lookup' has to be fitted first"):
        selections(built(f"{QUICK},target=50,cost_model=lookup"))
    with pytest.raises(UnknownNameError, match="unknown cost model 'pixel2'"):
        selections(built(f"{QUICK},target=50,cost_model=pixel2"))
    cells = NASBench201()
    model = Lookup(space=cells).fit(cells.all()[:50], np.arange(1.0, 51.0))
    with pytest.raises(InputError, match="the cost model is of space 'nasbench201', the budget of 'nasbench-macro'"):
        affordable(MACRO, model, 50.0)


def test_a_price_that_leaves_nothing_is_reported_with_its_lambda():
    with pytest.raises(InputError, match="with lambda 1000 all layers that can be skipped were, in epoch"):
        selections(built("single-path:images=few,epochs=20,warm_up=0,threshold_rate=0.2,trade_off=1000"))


def test_options_out_of_range_are_refused():
    model = Lookup(space=MACRO).fit(MACRO.all(), megaflops(MACRO.all()) + 1)
    part = affordable(MACRO, model, 1.15)
    for options, space, message in (
        ("epochs=1", MACRO, "at least 2 epochs"),
        ("batch_size=1", MACRO, "at least 2 images"),
        ("warm_up=1.0", MACRO, "share of warm-up"),
        ("learning_rate=0.0", MACRO, "rates above 0"),
        ("threshold_rate=-1.0", MACRO, "rates above 0"),
        ("trade_off=-1.0", MACRO, "at least 0, got -1"),
        ("export=/no/such/folder/net.onnx", MACRO, "there is no folder /no/such/folder"),
        ("target=1.0", part, "the budget of 1.15 is the target"),
        ("target=0.1,trade_off=1.0", MACRO, "with trade_off=1 lambda stays, and nothing is aimed at"),
        ("trade_off=1.0", part, "with trade_off=1 lambda stays, and nothing is aimed at"),
        ("cost_model=pixel1", part, "the budget has its own cost model"),
        ("", NASBench201(), "no supernet of the space 'nasbench201'"),
    ):
        with pytest.raises(InputError, match=message):
            built(f"single-path:images=few,{options}", space)
    with pytest.raises(InputError, match=r"the budget 1.03 is out of range: networks of .* cost between 1.0"):
        selections(built(QUICK, affordable(MACRO, model, 1.03)))  # only by skipping layers that resize
    with pytest.raises(UnknownNameError, match="size of networks"):
        SinglePathNAS(space=MACRO, networks="large")
