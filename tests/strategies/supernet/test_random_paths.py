import numpy as np
import pytest
import torch

from nasplug.errors import InputError, SpaceExhaustedError, TrainingError, UnknownNameError
from nasplug.spaces import NASBench201
from nasplug.spaces.modules.supernets import supernet
from nasplug.strategies.supernet.mixture import Recipe
from nasplug.strategies.supernet.path_ranking import Ranking
from nasplug.strategies.supernet.random_paths import SinglePaths, path_mixture

SPACE = NASBench201()
RANKING = Ranking(population=4, generations=2)


def made(data, net, **changes) -> SinglePaths:
    return SinglePaths(net, data, Recipe(epochs=2), changes.pop("ranking", RANKING), 0)


def test_a_path_is_one_operation_an_edge():
    rows = SPACE.sample(3, np.random.default_rng(0))
    net = supernet(SPACE, classes=10, in_channels=1, seed=0, channels=2, cells=1)
    paths = path_mixture(net, rows)
    assert paths.shape == (3, 6, 5)
    assert (paths.sum(dim=2) == 1).all()
    assert paths.argmax(dim=2).tolist() == rows.tolist()


def test_a_step_moves_the_weights_of_its_path_alone(small, data):
    net = small()
    method = made(data, net)
    drawn = SPACE.sample(1, np.random.default_rng([0, 5, 0]))[0]  # the path of the only batch of the first epoch
    before = {name: value.clone() for name, value in net.named_parameters()}
    method._epoch(0)
    for name, value in net.named_parameters():
        if ".operations." not in name:
            continue
        edge, operation = int(name.split("edges.")[1].split(".")[0]), int(name.split("operations.")[1].split(".")[0])
        if drawn[edge] != operation:
            assert torch.equal(value, before[name]), name
    moved = [name for name, value in net.named_parameters() if not torch.equal(value, before[name])]
    assert moved


def test_stages_rank_what_they_compared_and_the_best_leads(small, data):
    method = made(data, small())
    selections = [method.advance() for _ in range(method.stages)]
    assert [len(one.ranking) for one in selections] == [4, 4, 4, 8]
    for one in selections:
        assert one.facts["shared"] == sorted(one.facts["shared"], reverse=True)
    accuracy, _ = method.shared_accuracy(selections[-1].ranking)
    assert (np.diff(accuracy) <= 0).all()


def test_where_all_have_been_compared_a_generation_adds_nothing(small, data, monkeypatch):
    method = made(data, small())
    for _ in range(method.stages - 1):
        before = method.advance()

    def exhausted(*_):
        raise SpaceExhaustedError("all have been tried")

    monkeypatch.setattr(type(method._evolution), "propose", exhausted)
    assert method.advance().ranking.tolist() == before.ranking.tolist()


def test_exhaustive_ranking_compares_every_class(small, data, monkeypatch):
    method = made(data, small(), ranking=Ranking("exhaustive", population=4))
    seen: list[int] = []
    monkeypatch.setattr(
        method, "shared_accuracy", lambda rows: seen.append(len(rows)) or (rows.sum(axis=1), [0.0] * len(rows))
    )
    selections = [method.advance() for _ in range(method.stages)]
    assert seen[-1] == 6466
    assert selections[-1].ranking.sum(axis=1)[0] == max(SPACE.representative(SPACE.all()).sum(axis=1))


def test_a_loss_that_is_no_number_stops_with_the_epoch(small, data):
    method = made(data, small())
    with torch.no_grad():
        next(method.net.parameters())[0] = float("nan")
    with pytest.raises(TrainingError, match="became nan in epoch 1"):
        method.advance()


@pytest.mark.parametrize("wrong", [{"population": 2}, {"generations": 0}])
def test_rankings_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError, match="population with at least one parent, and at least one generation"):
        Ranking(**wrong)
    with pytest.raises(UnknownNameError, match="way of ranking 'guess'"):
        Ranking("guess")  # type: ignore[arg-type]
