"""Tasks, task dropout, the elastic network trained with it, and the strategy on top."""

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nasplug import registry
from nasplug.cost_models.constraint import affordable
from nasplug.errors import DataError, InputError, MissingDependencyError, TrainingError, UnknownNameError
from nasplug.spaces import Elastic, NASBench201
from nasplug.spaces.modules import complexity
from nasplug.spaces.modules.layout import ELASTIC_SMALL
from nasplug.spaces.subspace import Subspace
from nasplug.strategies import History, trial_rng
from nasplug.strategies.supernet.eas import EAS
from nasplug.strategies.supernet.elastic_training import dropped, masked
from nasplug.strategies.supernet.tasks import ALL, Tasks, read_tasks

SPACE = Elastic()
GROUPS = {"low": [0, 1, 2, 3, 4], "high": [5, 6, 7, 8, 9]}
SPEC = "eas:images=few,steps=5,generator_steps=2,batch_size=16"

pytestmark = pytest.mark.usefixtures("few")


def built(more: str = "", space=SPACE):
    return registry.configure("strategy", SPEC + more, space)


@pytest.fixture
def tasks_file(tmp_path):
    path = tmp_path / "tasks.yaml"
    path.write_text("low: [0, 1, 2, 3, 4]\nhigh: [5, 6, 7, 8, 9]\n")
    return path


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def trained(tasks_file, runs):
    """The strategy, with runs that all tests share."""
    return built(f",folder={runs},tasks={tasks_file}")


@pytest.fixture
def fresh(tasks_file, tmp_path):
    """The strategy, with runs of its own."""
    return built(f",folder={tmp_path / 'runs'},tasks={tasks_file}")


# -- tasks -----------------------------------------------------------------------------------------------------------


def test_tasks_of_a_file_are_masks(tasks_file):
    tasks = read_tasks(tasks_file, 10)
    assert tasks.names == ("low", "high")
    assert np.flatnonzero(tasks.mask("high")).tolist() == [5, 6, 7, 8, 9]
    assert tasks.mask(ALL).all()
    assert tasks.masks.sum() == 10
    with pytest.raises(UnknownNameError, match="did you mean low"):
        tasks.mask("lo")


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({}, "there is no task"),
        ({"a": []}, "task 'a' has 0 classes"),
        ({"a": [3]}, "task 'a' has 1 classes and nothing to tell apart"),
        ({"a": [1, 10]}, "integers of 0 to 9, got 10"),
        ({"a": [1, True]}, "integers of 0 to 9, got True"),
        ({"a": [1, 1]}, "names a class twice"),
        ({"all": [1, 2]}, "the task 'all' is that of all 10 classes"),
    ],
)
def test_groups_that_make_no_task_are_refused(groups, message):
    with pytest.raises(InputError, match=message):
        Tasks(groups, 10)


@pytest.mark.parametrize("text", ["", "- 1\n- 2", "a: b", "{", "1: [2, 3]", "a: [1, 2", "\0"])
def test_files_that_hold_no_tasks_are_refused(tmp_path, text):
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(DataError, match=r"t\.yaml.*expected lines such as"):
        read_tasks(tmp_path / "t.yaml", 10)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot read the tasks"):
        read_tasks(tmp_path / "none.yaml", 10)
    (tmp_path / "large.yaml").write_text("#" * 2**21)
    with pytest.raises(DataError, match="2097152 bytes"):
        read_tasks(tmp_path / "large.yaml", 10)


# -- task dropout ----------------------------------------------------------------------------------------------------


def test_dropped_tasks_leave_one_and_classes_of_no_task():
    tasks = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 0]], dtype=bool)
    rng = np.random.default_rng(0)
    drawn = np.array([dropped(tasks, 0.5, rng) for _ in range(400)])
    assert drawn[:, 4].all()
    assert drawn[:, :4].any(axis=1).all()
    both = drawn[:, :4].all(axis=1).mean()
    assert 0.17 < both < 0.33  # a quarter; 400 draws are outside once in 10,000
    assert dropped(tasks, 1.0, rng).all()


def test_masked_logits_give_dropped_classes_no_gradient():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    classes = np.array([True, False, True, False])
    F.cross_entropy(masked(logits, classes), torch.tensor([0, 2, 0, 2, 0, 2])).backward()
    assert (logits.grad[:, [1, 3]] == 0).all()
    assert (logits.grad[:, [0, 2]] != 0).all()


# -- the method ------------------------------------------------------------------------------------------------------


def test_weights_learn_what_the_tasks_ask(trained):
    strategy = replace(trained, steps=60, batch_size=32)
    method = strategy.method(0)
    losses = [strategy.run(0).selection(i).facts["train_loss"] for i in range(5)]
    assert losses[-1] < 0.8 * losses[0]
    low = method.tasks[0]
    assert method.accuracy(SPACE.n_choices - 1, low) > 0.4  # one in five by chance
    assert method.accuracy(SPACE.n_choices - 1, low, method.data.weights) > 0.8


def test_a_deployed_network_answers_for_its_task_alone(trained):
    method = trained.method(0)
    genotype = SPACE.n_choices - 1
    net = method.deployed(genotype, method.tasks[1])
    assert net(method.data.selection.images[:7]).shape == (7, 5)
    assert not net.training
    again = method.deployed(genotype, method.tasks[1])
    torch.testing.assert_close(net(method.data.selection.images), again(method.data.selection.images))
    weights = dict(method.net.whole.named_parameters())
    assert torch.equal(net.head.linear.weight, weights["head.linear.weight"][5:])
    one_hidden = net.blocks[0].layers.expand.weight
    assert torch.equal(one_hidden, weights["blocks.0.layers.expand.weight"])


def test_the_super_network_is_frozen_while_the_generator_learns(fresh):
    run = fresh.run(0)
    run.selection(4)
    before = run._restored(5).state()
    before = {name: value.clone() for name, value in before["net"].items()}
    method = fresh.method(0)
    assert all(torch.equal(before[name], value) for name, value in method.net.state_dict().items())
    assert all(weight.requires_grad for weight in method.net.parameters())


def test_a_loss_that_is_no_number_ends_the_training(fresh, monkeypatch):
    from nasplug.strategies.supernet import elastic_training as training

    with monkeypatch.context() as patched:
        patched.setattr(training.ElasticTraining, "_step", lambda self, step: float("nan"))
        with pytest.raises(TrainingError, match="loss of the super-network became nan"):
            fresh.method(0)
    monkeypatch.setattr(training, "train", lambda *a, **k: [float("inf")])
    with pytest.raises(TrainingError, match="generator became no number"):
        fresh.method(1)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("steps=0", "at least 1 step"),
        ("subnets=0", "at least 1 step, sub-network"),
        ("generator_steps=0", "step of the generator"),
        ("batch_size=1", "at least 2 images to normalise"),
        ("keep=0.0", "probability of a task to be kept"),
        ("noise=-1.0", "noise of at least 0"),
        ("learning_rate=0.0", "learning rate above 0"),
        ("share=2.0", "between 0 and 1"),
        ("kind=joules", "joules"),
        ("kind=latency", "needs a fitted cost model"),
        ("budget=0.0", "finite number above zero"),
        ("task=lo", "unknown task"),
        ("tasks=nowhere.yaml", "cannot read the tasks"),
    ],
)
def test_options_out_of_range_are_refused(option, message):
    with pytest.raises(InputError, match=message):
        registry.configure("strategy", f"eas:images=few,{option}", SPACE).propose(
            History.empty(SPACE), 1, trial_rng(0, 0)
        )


def test_choices_are_checked_without_the_registry_too():
    with pytest.raises(InputError, match="eas knows budgets of flops, params and latency, got 'joules'"):
        EAS(space=SPACE, kind="joules")
    with pytest.raises(UnknownNameError, match=r"unknown size of networks 'smal'.*did you mean small"):
        EAS(space=SPACE, networks="smal")


def test_without_torch_there_is_one_clear_error(few, tmp_path, monkeypatch):
    strategy = EAS(space=SPACE, images="few", folder=str(tmp_path))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r"training a supernet needs the package 'torch'; pip install"):
        strategy.propose(History.empty(SPACE), 1, trial_rng(0, 0))


def test_parts_that_do_not_go_together_are_refused(trained, few):
    from nasplug.strategies.supernet.elastic_training import ElasticTraining

    method = trained.method(0)
    rest = (method.data, method.tasks, method.recipe, 0)
    with pytest.raises(InputError, match="do not go together"):
        ElasticTraining(method.net, method.generator, method.data, method.tasks[:, :5], method.recipe, 0)
    empty = type(method.data.selection)("selection", method.data.selection.images[:4], torch.tensor([0, 1, 2, 3]))
    with pytest.raises(InputError, match="selection half has no image of some class"):
        ElasticTraining(method.net, method.generator, replace(method.data, selection=empty), *rest[1:])


def test_images_of_another_size_are_refused(trained):
    method = trained.method(0)
    large = type(method.data.selection)("test", torch.zeros(4, 1, 16, 16), torch.tensor([0, 1, 2, 3]))
    with pytest.raises(InputError, match=r"trained on images \(1, 8, 8\), the test images are \(1, 16, 16\)"):
        method.accuracy(SPACE.n_choices - 1, method.tasks[0], large)


# -- the strategy ----------------------------------------------------------------------------------------------------


def flops(rows, classes):
    return complexity.flops(SPACE, rows, classes=classes, in_channels=1, size=8, **ELASTIC_SMALL)


def test_proposals_meet_the_budget_of_the_request_and_train_once(trained):
    low = replace(trained, task="low", budget=100_000.0)
    first = low.propose(History.empty(SPACE), 3, trial_rng(0, 0))
    assert (flops(first[:1], 5) <= 100_000).all()
    assert flops(first[:1], 5)[0] > 95_000
    assert (flops(first, 5) <= 100_000).all()
    assert (np.diff(flops(first, 5)) <= 0).all()
    files = sorted(path for path in trained.run(0).folder.iterdir() if path.name != "run.lock")
    stamps = [path.stat().st_mtime_ns for path in files]
    params = replace(low, kind="params", budget=5_000.0, task="all")
    assert params.run(0).folder == low.run(0).folder
    (row,) = params.propose(History.empty(SPACE), 1, trial_rng(0, 0))
    assert complexity.params(SPACE, row[None], in_channels=1, **ELASTIC_SMALL)[0] <= 5_000
    assert [path.stat().st_mtime_ns for path in files] == stamps


def test_proposals_never_repeat_and_a_new_object_goes_on(trained):
    history = History.empty(SPACE)
    for number in range(0, 80, 20):
        strategy = pickle.loads(pickle.dumps(trained)) if number < 40 else trained
        history = history.extended(strategy.propose(history, 20, trial_rng(0, number)), np.zeros(20))
    assert len(np.unique(history.keys)) == 80


def test_another_seed_other_tasks_and_another_model_are_other_runs(trained, tmp_path):
    class Model:
        def predict(self, genotypes):
            return 1.0 + genotypes.sum(axis=1)

    runs = {trained.run(0).folder, trained.run(1).folder, replace(trained, tasks=None).run(0).folder}
    runs |= {replace(trained, keep=1.0).run(0).folder, replace(trained, model=Model()).run(0).folder}
    assert len(runs) == 5


def test_a_latency_model_is_a_kind_of_budget(trained):
    class Model:
        def predict(self, genotypes):
            return 1e-5 * flops(genotypes, 10) ** 1.1

    strategy = replace(trained, model=Model(), kind="latency", budget=3.0, task="low")
    rows = strategy.propose(History.empty(SPACE), 2, trial_rng(0, 0))
    assert (Model().predict(rows) <= 3.0).all()
    assert Model().predict(rows)[0] > 2.7


def test_a_budget_below_everything_is_refused_before_anything_is_trained(fresh):
    strategy = replace(fresh, budget=1.0, task="low")
    cheapest = flops(np.zeros((1, SPACE.n_sites), int), 5)[0]
    with pytest.raises(InputError, match=rf"no network for the task 'low' costs 1 .* costs {cheapest}"):
        strategy.propose(History.empty(SPACE), 1, trial_rng(0, 0))
    assert not Path(fresh.folder).exists()


def test_when_answers_run_out_random_ones_keep_the_budget(trained):
    strategy = replace(trained, budget=60_000.0, task="low")
    rows = strategy.propose(History.empty(SPACE), 120, trial_rng(0, 0))
    assert len(np.unique(SPACE.keys(rows))) == 120
    assert (flops(rows, 5) <= 60_000).all()
    part = Subspace(
        SPACE, lambda rows: rows[:, 0] == 0, "a first stage of one block", np.zeros((1, SPACE.n_sites), int)
    )
    rows = replace(strategy, space=part).propose(History.empty(part), 90, trial_rng(0, 0))
    assert part.valid(rows).all()
    assert (flops(rows, 5) <= 60_000).all()


def test_the_budget_of_a_space_is_one_of_latency(trained):
    class Model:
        def predict(self, genotypes):
            return 1e-5 * flops(genotypes, 10)

    part = affordable(SPACE, Model(), 1.0)
    strategy = replace(trained, space=part)
    rows = strategy.propose(History.empty(part), 2, trial_rng(0, 0))
    assert 0.9 < Model().predict(rows)[0] <= 1.0
    for option in ({"budget": 3.0}, {"model": Model()}):
        with pytest.raises(InputError, match="the space has a budget of 1 and its own cost model"):
            replace(strategy, **option)


def test_an_interrupted_run_is_the_same_bit_for_bit(tmp_path, tasks_file):
    states = []
    for name in ("whole", "pieces"):
        for stage in range(6) if name == "pieces" else [5]:
            strategy = built(f",folder={tmp_path / name},tasks={tasks_file}")
            strategy.run(3).selection(stage)
        states.append(torch.load(strategy.run(3).checkpoint, weights_only=True))
    for part in ("net", "generator"):
        assert all(torch.equal(value, states[1][part][name]) for name, value in states[0][part].items())


def test_a_checkpoint_of_another_network_is_refused(fresh):
    run = fresh.run(0)
    run.selection(5)
    state = torch.load(run.checkpoint, weights_only=True)
    del state["generator"]["anchors"]
    torch.save(state, run.checkpoint)
    with pytest.raises(DataError, match="damaged or of another supernet"):
        built(f",folder={run.folder.parent},tasks={fresh.tasks}").method(0)


def test_a_generator_of_another_super_network_is_refused(fresh):
    states = [torch.load(_trained(fresh, seed).checkpoint, weights_only=True) for seed in (0, 1)]
    mixed = states[0] | {name: states[1][name] for name in ("generator", "generator_of")}
    for state, message in ((states[1], "a run of other settings"), (mixed, "trained through another super-network")):
        torch.save(state, fresh.run(0).checkpoint)
        with pytest.raises(DataError, match=message):
            built(f",folder={fresh.folder},tasks={fresh.tasks}").method(0)


def _trained(strategy, seed):
    strategy.run(seed).selection(5)
    return strategy.run(seed)


def test_other_spaces_are_refused():
    with pytest.raises(InputError, match="has no supernet of the space 'nasbench201'; spaces that have: elastic"):
        built(space=NASBench201())


def test_the_strategy_is_known_without_torch():
    code = (
        "import sys; from nasplug import registry; from nasplug.spaces import Elastic;"
        "registry.configure('strategy', 'eas', Elastic()); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_global_streams_are_left_alone(trained, tmp_path):
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    replace(trained, folder=str(tmp_path)).method(0)
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


def test_facts_are_json(trained):
    json.dumps(trained._facts(trained.data_set, 0))


def test_inputs_are_what_the_file_holds_now(fresh, tasks_file):
    before = fresh.inputs
    assert json.loads(json.dumps(before)) == before
    tasks_file.write_text("low: [0, 1]\nhigh: [5, 6, 7, 8, 9]\n")
    assert replace(fresh).inputs != before
    assert replace(fresh).inputs["images"] == before["images"]
