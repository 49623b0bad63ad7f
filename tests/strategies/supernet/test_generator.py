"""Requests in, architectures out: bounds, batches, anchors, repair; and that training helps."""

import time
from itertools import pairwise

import numpy as np
import pytest
import torch

from nasplug.errors import InputError
from nasplug.spaces import DARTS, Categorical, Elastic, OFAMobileNetV3
from nasplug.spaces.modules import complexity
from nasplug.spaces.modules.layout import ELASTIC_SMALL
from nasplug.spaces.modules.relaxed import one_hot
from nasplug.spaces.staged import StagedSpace
from nasplug.strategies.supernet import generator as module
from nasplug.strategies.supernet.costs import elastic_costs, tabulated
from nasplug.strategies.supernet.generator import FILL, Generator, Requests, Schedule, requests, train
from nasplug.strategies.supernet.predicted import PredictedError

SPACE = Elastic()
TASKS = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 0]], dtype=bool)
SIZES = {"in_channels": 1, "size": 8, **ELASTIC_SMALL}


@pytest.fixture(scope="module")
def costs():
    return list(elastic_costs(SPACE, **SIZES).values())


@pytest.fixture(scope="module")
def generator(costs):
    return Generator(costs, 4, seed=3)


def drawn(generator, n=50, seed=0):
    return requests(generator, TASKS, n, np.random.default_rng(seed))


# -- costs -----------------------------------------------------------------------------------------------------------


def test_tables_are_exact_where_costs_add_up(costs):
    rows = SPACE.sample(200, np.random.default_rng(1))
    for cost, count, more in zip(costs, (complexity.flops, complexity.params), ({"size": 8}, {}), strict=True):
        true = count(SPACE, rows, classes=3, in_channels=1, **ELASTIC_SMALL, **more)
        assert cost.error < 1e-9
        np.testing.assert_allclose(cost.of(rows, np.full(200, 3)), true)
        relaxed = cost.relaxed(one_hot(SPACE, rows)).numpy() + 3 * cost.per_class
        np.testing.assert_allclose(relaxed, true, rtol=1e-5)
        least, greatest = cost.span
        assert least <= cost.predict(rows).min()
        assert greatest >= cost.predict(rows).max()
        assert cost.predict(cost.cheapest[0][None])[0] == least
        assert (cost.cheapest[0] == 0).all()


def test_a_model_that_does_not_add_up_is_approximated_and_has_the_last_word():
    def predict(rows):
        return 1 + 1e-3 * complexity.flops(SPACE, rows, in_channels=1, size=8, **ELASTIC_SMALL) ** 0.8

    cost = tabulated("latency", SPACE, predict)
    assert 1e-4 < cost.error < 0.2
    generator = Generator([cost], 4)
    asked = drawn(generator, 40)
    answers = generator.answer(asked)
    np.testing.assert_allclose(answers.costs, predict(answers.genotypes))
    assert answers.met.all()
    assert (answers.costs <= asked.budgets).all()


def test_contexts_that_a_model_does_not_know_are_never_answered():
    space = OFAMobileNetV3()

    def predict(rows):
        assert (rows[:, -1] >= 8).all()
        return space.encode(rows, "totals")[:, [0, 1, 2, 6]].sum(axis=1).astype(float)

    cost = tabulated("flops", space, predict, allowed=np.arange(25) >= 8)
    assert cost.error < 1e-3
    generator = Generator([cost], 1)
    asked = requests(generator, np.ones((1, 1), bool), 20, np.random.default_rng(0))
    answers = generator.answer(asked)
    assert answers.met.all()
    assert (answers.genotypes[:, -1] >= 8).all()


def test_models_and_spaces_that_make_no_budget_are_refused():
    with pytest.raises(InputError, match="finite and above zero"):
        tabulated("nothing", SPACE, lambda rows: np.zeros(len(rows)))
    more = [Categorical("a", (1, 2)), Categorical("b", (1, 2))]
    space = StagedSpace("two", stages=1, depths=(1, 2), kernels=(3, 5), expansions=(1, 2), more=more)
    with pytest.raises(InputError, match="holds one site beyond blocks, space 'two' has 2"):
        tabulated("two", space, lambda rows: np.ones(len(rows)))
    assert not isinstance(DARTS(), StagedSpace)


# -- the generator ---------------------------------------------------------------------------------------------------


def test_anchor_budgets_have_the_anchors_embeddings(generator):
    anchors = generator.anchors.shape[1]
    for kind in (0, 1):
        at = torch.linspace(0, 1, anchors)
        found = generator.embedded(torch.full((anchors,), kind), at)
        torch.testing.assert_close(found, generator.anchors[kind])
    half = generator.embedded(torch.tensor([1]), torch.tensor([0.5 / (anchors - 1)]))
    torch.testing.assert_close(half[0], generator.anchors[1, :2].mean(dim=0))


def test_many_requests_at_once_are_answered_like_each_alone(generator):
    asked = drawn(generator, 12)
    together = generator.answer(asked)
    for i in range(12):
        alone = generator.answer(Requests(asked.tasks[[i]], asked.budgets[[i]], asked.kinds[[i]]))
        np.testing.assert_array_equal(alone.genotypes[0], together.genotypes[i])


def test_no_budget_is_exceeded_and_most_are_used(generator):
    asked = drawn(generator, 200)
    answers = generator.answer(asked)
    assert SPACE.valid(answers.genotypes).all()
    np.testing.assert_array_equal(answers.genotypes, SPACE.masked(answers.genotypes))
    assert answers.met.all()
    assert (answers.costs <= asked.budgets).all()
    true = np.where(
        asked.kinds == 0,
        [complexity.flops(SPACE, g[None], classes=2, **SIZES)[0] for g in answers.genotypes],
        [complexity.params(SPACE, g[None], classes=2, in_channels=1, **ELASTIC_SMALL)[0] for g in answers.genotypes],
    )
    np.testing.assert_allclose(answers.costs, true)
    # An untrained generator, so nearly all of this is repair; below the second smallest network nothing is left to use.
    assert answers.repaired.mean() > 0.5
    assert ((answers.costs / asked.budgets) >= FILL).mean() > 0.9


def test_repair_asks_how_likely_a_code_is_among_those_of_its_site(costs):
    """A constant on all logits of one site changes no probability, and so no answer."""
    moved = Generator(costs, 4, seed=3)
    plain = moved.answer(drawn(moved, 40))
    last = [layer for layer in moved.modules() if isinstance(layer, torch.nn.Linear)][-1]
    constants = np.random.default_rng(0).normal(0, 9, SPACE.n_sites).repeat(SPACE.n_choices)
    with torch.no_grad():
        last.bias += torch.from_numpy(constants)
    again = moved.answer(drawn(moved, 40))
    np.testing.assert_array_equal(plain.genotypes, again.genotypes)


def test_answers_that_no_single_change_could_finish_are_finished_by_two(costs, monkeypatch):
    made = [Generator(costs, 4, seed=seed) for seed in range(4)]
    shares = {}
    for way in ("two", "one"):
        if way == "one":
            monkeypatch.setattr(module, "_pair", lambda *_: None)
        found = [(asked, one.answer(asked)) for one in made for asked in [drawn(one, 200)]]
        shares[way] = np.concatenate([answers.costs / asked.budgets for asked, answers in found])
    stuck = shares["one"] < FILL
    assert stuck.sum() > 5
    assert (shares["two"] >= shares["one"]).all()
    assert (shares["two"][stuck] > shares["one"][stuck]).mean() > 0.5
    assert (shares["two"] >= FILL).mean() > (shares["one"] >= FILL).mean()


def test_a_budget_that_cannot_be_met_gets_the_cheapest_network(generator, costs):
    asked = Requests(TASKS[:2], np.array([costs[0].span[0] * 0.5, costs[1].span[0] + 2 * 17]), np.array([0, 1]))
    answers = generator.answer(asked)
    assert answers.met.tolist() == [False, True]
    assert not answers.genotypes.any()
    assert answers.costs[0] > asked.budgets[0]
    assert answers.costs[1] == asked.budgets[1]


def test_fifty_requests_are_answered_at_once(generator):
    asked = drawn(generator, 50)
    generator.answer(asked)
    started = time.process_time()
    generator.answer(asked)
    assert time.process_time() - started < 0.5  # 0.02 s on an idle core


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": np.zeros((1, 4), bool)}, "request 0 names no class"),
        ({"tasks": np.ones((1, 5), bool)}, "over the 4 classes of the generator"),
        ({"kinds": np.array([2])}, "kinds of budgets are 0 to 1"),
        ({"budgets": np.array([np.nan])}, "finite numbers above zero"),
        ({"budgets": np.array([-1.0])}, "finite numbers above zero"),
    ],
)
def test_requests_of_another_generator_are_refused(generator, change, message):
    whole = {"tasks": TASKS[:1], "budgets": np.array([1e5]), "kinds": np.array([0])}
    with pytest.raises(InputError, match=message):
        generator.answer(Requests(**{**whole, **change}))


def test_kinds_of_budgets_are_distinct_and_of_one_space(costs):
    with pytest.raises(InputError, match="budgets of one space, each once"):
        Generator([costs[0], costs[0]], 4)


def test_the_same_seed_makes_the_same_generator(costs):
    def weights(seed):
        generator = Generator(costs, 4, seed=seed)
        before = torch.get_rng_state()
        train(generator, lambda choices, asked: choices.kernel[..., 0].mean(dim=1), TASKS, Schedule(steps=3), seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        return torch.cat([p.detach().flatten() for p in generator.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_training_finds_what_each_task_needs_within_the_budget(costs):
    """Task 0 likes wide blocks in the first stage, task 1 in the last: what a made-up objective says."""
    generator = Generator(costs[1:], 4)
    wide = torch.zeros(2, 9)
    wide[0, :3] = wide[1, 6:] = 1.0

    def objective(choices, asked):
        gain = (choices.expand[..., 2] * choices.active(SPACE) * wide[asked.tasks[:, 2].astype(int)]).sum(dim=1)
        return -gain

    asked = Requests(TASKS[[0, 1]], np.array([9000.0, 9000.0]), np.array([0, 0]))

    def gained():
        with torch.no_grad():
            return -objective(one_hot(SPACE, generator.answer(asked).genotypes), asked).numpy()

    before = gained()
    losses = train(generator, objective, TASKS[:2], Schedule(steps=150, batch=16), seed=0)
    assert np.mean(losses[-20:]) < np.mean(losses[:20]) - 0.5
    after = gained()
    assert after.sum() > before.sum()
    assert after[0] == 3  # the first stage is cheap enough to be wide whatever the budget
    raw = generator(asked.tasks, asked.kinds, generator.position(asked))
    assert (generator.probabilities(raw).depth.sum(dim=-1) - 1).abs().max() < 1e-5


# -- once-for-all's predictor ----------------------------------------------------------------------------------------


def predictor(seed=0):
    rng = np.random.default_rng(seed)
    sizes = (128, 400, 400, 400, 1)
    arrays = {f"weight_{i}": rng.normal(0, 0.06, (a, b)).astype(np.float32) for i, (a, b) in enumerate(pairwise(sizes))}
    return arrays | {f"bias_{i}": rng.normal(0, 0.1, size).astype(np.float32) for i, size in enumerate(sizes[1:])}


def test_the_predicted_error_is_the_predictors_and_has_a_gradient():
    space, arrays = OFAMobileNetV3(), predictor()
    rows = space.sample(30, np.random.default_rng(0))
    hidden = space.encode(rows, "ofa")
    for i in range(3):
        hidden = np.maximum(hidden @ arrays[f"weight_{i}"] + arrays[f"bias_{i}"], 0)
    expected = 100 - 100 * (hidden @ arrays["weight_3"] + arrays["bias_3"])[:, 0]
    choices = one_hot(space, rows)
    found = PredictedError(arrays)(choices)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-3)
    choices.kernel.requires_grad_()
    PredictedError(arrays)(choices).sum().backward()
    assert (choices.kernel.grad != 0).any(dim=-1).float().mean() > 0.5
