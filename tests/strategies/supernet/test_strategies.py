"""What every strategy that trains a supernet must do. Outsiders: add your strategy to SPECS."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from nasplug import registry
from nasplug.errors import InputError, UnknownNameError
from nasplug.images.catalog import DATASETS
from nasplug.spaces import NASBench201, NASBenchMacro
from nasplug.spaces.subspace import Subspace
from nasplug.strategies import History, Status, Strategy, trial_rng
from nasplug.strategies.supernet.weight_sharing import Darts

SPECS = {
    "darts": "darts:images=few,epochs=3",
    "darts-pt": "darts-pt:images=few,epochs=2,interval=1",
    "darts-pt-fixed-alpha": "darts-pt-fixed-alpha:images=few,epochs=2,interval=1",
    "spos": "spos:images=few,epochs=3,population=4,generations=3",
}
SPACE = NASBench201()

pytestmark = pytest.mark.usefixtures("few")


def built(spec: str, space=SPACE) -> Strategy:
    return registry.configure("strategy", spec, space)


def searched(strategy: Strategy, n: int, seed: int = 0) -> History:
    history = History.empty(strategy.space)
    for number in range(n):
        history = history.extended(strategy.propose(history, 1, trial_rng(seed, number)), np.zeros(1))
    return history


@pytest.fixture(params=SPECS)
def spec(request: pytest.FixtureRequest) -> str:
    return SPECS[request.param]


def test_proposals_never_repeat_and_go_on_after_the_last_stage(spec):
    strategy = built(spec)
    history = searched(strategy, 40)
    assert len(np.unique(history.keys)) == 40
    assert SPACE.valid(history.genotypes).all()
    run = strategy.run(0)
    selections = [run.selection(stage) for stage in range(run.stages)]
    assert run.selection(run.stages) is None
    leading = [one.ranking[0].tolist() for one in selections if len(one.ranking)]
    unique = [row for i, row in enumerate(leading) if row not in leading[:i]]
    assert history.genotypes[: len(unique)].tolist() == unique
    # What follows is the ranking of the last stage.
    rest = [row for row in selections[-1].ranking.tolist() if row not in unique]
    assert history.genotypes[len(unique) :].tolist()[: len(rest)] == rest[: 40 - len(unique)]


def test_another_object_another_process_or_a_resumed_study_go_on_as_one(spec, tmp_path):
    whole = searched(built(spec + f",folder={tmp_path / 'a'}"), 8)
    other = spec + f",folder={tmp_path / 'b'}"
    history = History.empty(SPACE)
    for number in range(8):  # a new object for every proposal, as a resumed study would have
        strategy = pickle.loads(pickle.dumps(built(other)))
        history = history.extended(strategy.propose(history, 1, trial_rng(0, number)), np.zeros(1))
    assert history.genotypes.tolist() == whole.genotypes.tolist()


def test_the_state_on_disk_is_the_same_bit_for_bit_after_an_interruption(spec, tmp_path):
    states = []
    for name, pieces in (("a", 1), ("b", 99)):
        folder = tmp_path / name
        for _ in range(pieces):
            strategy = built(spec + f",folder={folder}")
            run = strategy.run(3)
            known = len(list(run.folder.glob("stage-*.json")))
            if known == run.stages:
                break
            run.selection(run.stages - 1 if pieces == 1 else known)
        states.append(torch.load(built(spec + f",folder={folder}").run(3).checkpoint, weights_only=True))
    left, right = map(flattened, states)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def flattened(state, prefix=""):
    """Every tensor of a nested state, other values as tensors."""
    if isinstance(state, dict):
        return {k: v for key, value in state.items() for k, v in flattened(value, f"{prefix}/{key}").items()}
    if isinstance(state, list | tuple):
        return {k: v for i, value in enumerate(state) for k, v in flattened(value, f"{prefix}/{i}").items()}
    if isinstance(state, torch.Tensor):
        return {prefix: state}
    return {prefix: torch.tensor(float(state))} if isinstance(state, int | float) else {}


def test_running_architectures_are_passed_over(spec):
    strategy = built(spec)
    first = strategy.propose(History.empty(SPACE), 1, trial_rng(0, 0))
    running = History.empty(SPACE).extended(first, np.full(1, np.nan), Status.RUNNING)
    second = strategy.propose(running, 3, trial_rng(0, 1))
    assert len(np.unique(SPACE.keys(np.concatenate([first, second])))) == 4


def test_another_seed_is_another_run(spec):
    strategy = built(spec)
    assert strategy.run(0).folder != strategy.run(1).folder
    assert searched(strategy, 6, seed=0).keys.tolist() != searched(strategy, 6, seed=1).keys.tolist()


def test_other_options_are_another_run(spec):
    assert built(spec).run(0).folder != built(spec + ",learning_rate=0.02").run(0).folder
    assert built(spec).run(0).folder == built(spec + ",device=cpu").run(0).folder


def test_only_a_part_of_the_space_is_proposed_where_only_that_is_allowed(spec):
    part = Subspace(SPACE, lambda rows: (rows == 3).sum(axis=1) <= 2, "at most two conv3x3")
    history = searched(built(spec, part), 12)
    assert part.valid(history.genotypes).all()


def test_the_same_decisions_on_one_and_two_threads(spec, tmp_path):
    sequences = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        strategy = built(spec + f",folder={tmp_path / str(threads)}")
        sequences.append(searched(strategy, 4).genotypes.tolist())
    assert sequences[0] == sequences[1]


def test_global_streams_are_left_alone(spec, tmp_path):
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    searched(built(f"{spec},folder={tmp_path}"), 3)
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


def test_a_space_without_supernet_is_refused(spec):
    with pytest.raises(
        InputError, match="has no supernet of the space 'nasbench-macro'; spaces that have: nasbench201"
    ):
        built(spec, NASBenchMacro())


def test_stages_are_known_without_torch(spec, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for module in [name for name in sys.modules if name.startswith("nasplug.") and "supernet." in name]:
        monkeypatch.delitem(sys.modules, module)
    assert built(spec).run(0).stages >= 3


def test_numbers_of_numpy_are_numbers(tmp_path):
    plain = Darts(space=SPACE, images="few", epochs=3, folder=str(tmp_path))
    assert (
        Darts(space=SPACE, images="few", epochs=np.int64(3), folder=str(tmp_path)).run(0).folder == plain.run(0).folder
    )


def test_a_low_learning_rate_is_the_final_one_too():
    images = DATASETS["few"](None)
    assert Darts(space=SPACE, learning_rate=0.0005).recipe(images).final_rate == 0.0005
    assert Darts(space=SPACE).recipe(images).final_rate == 0.001


@pytest.mark.parametrize("option", ["epochs=0", "share=1.5", "batch_size=1", "learning_rate=0.0"])
def test_numbers_out_of_range_are_refused(spec, option):
    name = spec.partition(":")[0]
    with pytest.raises(InputError, match=r"at least 1 epoch|between 0 and 1|learning rate above 0"):
        searched(built(f"{name}:images=few,{option}"), 1)


def test_an_unknown_size_or_data_set_is_refused(spec):
    name = spec.partition(":")[0]
    with pytest.raises(UnknownNameError, match="huge"):
        built(f"{name}:networks=huge")
    with pytest.raises(UnknownNameError, match="imagenet"):
        searched(built(f"{name}:images=imagenet"), 1)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("darts-pt:images=few,epochs=1,interval=0", "interval of at least 1 epoch"),
        ("darts-pt:criterion=speed", "speed"),
        ("spos:images=few,epochs=1,population=0", "population with at least one parent"),
        ("spos:ranking=guess", "guess"),
    ],
)
def test_options_of_one_strategy_out_of_range_are_refused(spec, message):
    with pytest.raises(InputError, match=message):
        searched(built(spec), 1)


def test_strategies_are_known_without_torch():
    code = (
        "import sys, json; from nasplug import registry; from nasplug.spaces import NASBench201;"
        "[registry.configure('strategy', name, NASBench201()) for name in json.loads(sys.argv[1])];"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(list(SPECS))], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
