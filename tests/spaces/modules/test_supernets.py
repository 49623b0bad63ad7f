"""Supernets whose edges mix operations: what they are worth as single networks, and as a frame for decisions."""

import ast

import numpy as np
import pytest
import torch
from torch import nn

from nasplug.errors import InputError
from nasplug.spaces import DARTS, DARTSS1, DARTSS2, DARTSS3, DARTSS4, FBNet, NASBench201
from nasplug.spaces import darts as cells
from nasplug.spaces import nasbench201 as topology
from nasplug.spaces.modules.build import network
from nasplug.spaces.modules.counting import count_params
from nasplug.spaces.modules.noise import Noise
from nasplug.spaces.modules.supernets import MixedEdge, supernet

SMALL = {"nasbench201": {"channels": 4, "cells": 1}}
SPACES = [NASBench201(), DARTS(), DARTSS1(), DARTSS2(), DARTSS3(), DARTSS4()]

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=SPACES, ids=lambda space: space.name)
def space(request):
    return request.param


def small(space, seed=0):
    sizes = SMALL.get(space.name, {"channels": 4, "layers": 3})
    return supernet(space, classes=5, in_channels=2, seed=seed, **sizes)


def images(n=6):
    return torch.randn(n, 2, 8, 8, generator=torch.Generator().manual_seed(0))


def even(net):
    return torch.full(net.selectable.shape, 1 / len(net.choices))


def alone(net, genotype):
    """The mixture of one architecture."""
    (chosen,) = net.decisions(genotype[None])
    mixture = torch.zeros(net.selectable.shape)
    rows = np.flatnonzero(chosen >= 0)
    mixture[rows, chosen[rows]] = 1
    return mixture


def path(space, genotype):
    """The decision and operation name of each edge of a network, read from its string, in the network's own order."""
    (text,) = space.to_string(genotype[None])
    if space.name == "nasbench201":
        return [
            [(edge, name.split("~")[0]) for edge, name in enumerate(text.strip("|").replace("|+|", "|").split("|"))]
        ]
    found = []
    for cell, name in enumerate(("normal", "reduce")):
        edges = ast.literal_eval(text.split(f"{name}=")[1].split(f", {name}_concat")[0])
        places = [cells.EDGES.index((source, 2 + i // 2)) for i, (_, source) in enumerate(edges)]
        found.append([(14 * cell + place, op) for place, (op, _) in zip(places, edges, strict=True)])
    return found


def loaded(net, space, genotype):
    """The discrete network, its weights those of the supernet; behind pooling a norm, where the supernet has one."""
    sizes = SMALL.get(space.name, {"channels": 4, "layers": 3})
    plain = network(space, genotype, classes=5, in_channels=2, seed=99, **sizes)
    shared = {key: value for key, value in net.body.state_dict().items() if ".edges." not in key}
    assert plain.load_state_dict(shared, strict=False).unexpected_keys == []
    is_darts = isinstance(space, DARTS)
    for i, (mixing, single) in enumerate(
        zip(
            [m for m in net.body.modules() if hasattr(m, "edges")],
            [m for m in plain.modules() if hasattr(m, "edges")],
            strict=True,
        )
    ):
        edges = path(space, genotype)[int(is_darts and i in (1, 2))]  # with three layers, the last two reduce
        for k, (decision, name) in enumerate(edges):
            (mixed,) = (edge for edge in mixing.edges if edge.decision == decision)
            names = space.on_edges[decision // 14][decision % 14] if is_darts else topology.OPERATIONS
            operation = mixed.operations[len(mixed.operations) - len(names) + names.index(name)]
            if is_darts and "pool" in name:
                single.edges[k] = nn.Sequential(single.edges[k], nn.BatchNorm2d(operation[1].num_features))
            single.edges[k].load_state_dict(operation.state_dict(), strict=False)
    return plain


def test_one_path_is_the_network_of_that_architecture(space):
    net = small(space).train()
    with torch.no_grad():
        for norm in net.modules():
            if isinstance(norm, nn.BatchNorm2d) and norm.affine:  # of the stem: other than those of a new network
                norm.weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(1))
    for genotype in space.sample(4, np.random.default_rng(0)):
        plain = loaded(net, space, genotype).train()
        torch.testing.assert_close(net(images(), alone(net, genotype)), plain(images()), rtol=0, atol=1e-5)


def test_masking_an_operation_that_does_nothing_leaves_the_logits():
    for space in (NASBench201(), DARTSS3()):
        net = small(space)
        mixture = even(net)
        without = mixture.clone()
        without[:, net.choices.index("none")] = 0
        logits = net(images(), mixture)
        torch.testing.assert_close(net(images(), without), logits, rtol=0, atol=1e-6)
        without[:, -1] = 0
        assert (net(images(), without) - logits).abs().max() > 1e-3


def test_a_dropped_edge_and_a_masked_operation_contribute_nothing(space):
    """Not even where their weights are no numbers."""
    net = small(space).eval()
    mixture = even(net)
    mixture[3] = 0
    mixture[0, -1] = 0
    before = net(images(), mixture)
    for edge in (module for module in net.modules() if isinstance(module, MixedEdge)):
        gone = {3: list(edge.operations), 0: [edge.operations[-1]]}.get(edge.decision, [])
        for weight in (weight for operation in gone for weight in operation.parameters()):
            nn.init.constant_(weight, torch.nan)
    assert torch.equal(net(images(), mixture), before)
    assert before.isfinite().all()


def test_every_decision_and_choice_counts_and_has_a_gradient(space):
    net = small(space).eval()
    mixture = even(net).requires_grad_()
    (gradient,) = torch.autograd.grad(net(images(), mixture).square().sum(), [mixture])
    works = torch.tensor([choice != "none" for choice in net.choices])
    assert (gradient[:, works].abs() > 0).all()
    assert (gradient[:, ~works] == 0).all()


def test_parameters_are_as_many_as_published():
    assert count_params(supernet(NASBench201(), classes=10, in_channels=3, seed=0)) == 1_686_106
    assert count_params(supernet(DARTS(), classes=10, in_channels=3, seed=0)) == 1_930_618


def test_reduced_supernets_hold_their_own_operations():
    nets = {space.name: small(space) for space in SPACES[1:]}
    counted = {name: count_params(net) for name, net in nets.items()}
    assert counted["darts-s3"] == counted["darts-s2"] < counted["darts"]
    # Noise has no weights; a skip connection has some on the eight edges of a reduction cell that leave its inputs.
    assert counted["darts-s4"] < counted["darts-s2"]
    assert nets["darts-s3"].choices == ("none", "skip_connect", "sep_conv_3x3")
    assert nets["darts-s3"].selectable.all(axis=0).tolist() == [False, True, True]
    assert not nets["darts-s3"].selectable[:, 0].any()
    assert all(nets[name].selectable.all() for name in nets if name != "darts-s3")
    assert nets["darts-s1"].choices == ("0", "1")
    seeds = [module.seed for module in nets["darts-s4"].modules() if isinstance(module, Noise)]
    assert len(set(seeds)) == len(seeds) == 3 * 14


def test_norms_take_the_statistics_of_the_batch_and_have_no_scale_within_cells(space):
    net = small(space)
    norms = [(name, module) for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert not any(module.track_running_stats for _, module in norms)
    assert all(module.affine == (".edges." not in name and ".cells." not in name) for name, module in norms)


def test_behind_pooling_stands_a_norm():
    edges = [module for module in small(DARTS()).modules() if isinstance(module, MixedEdge)]
    for pool, norm in (edge.operations[choice] for edge in edges for choice in (0, 1)):
        assert isinstance(pool, nn.MaxPool2d | nn.AvgPool2d)
        assert isinstance(norm, nn.BatchNorm2d)


def test_genotypes_and_decisions_are_inverse(space):
    net = small(space)
    some = space.sample(400, np.random.default_rng(0))
    chosen = net.decisions(some)
    assert chosen.shape == (400, net.n_decisions)
    rng = np.random.default_rng(1)
    for row, genotype in zip(chosen, some, strict=True):
        # What was chosen for an edge that does not stay is of no account.
        others = np.where(row < 0, rng.integers(len(net.choices), size=len(row)), row)
        np.testing.assert_array_equal(net.genotype(others, row >= 0), genotype)
    assert net.decisions(some[:0]).shape == (0, net.n_decisions)


def test_any_choice_of_edges_and_operations_is_an_architecture_that_has_them(space):
    net, rng = small(space), np.random.default_rng(2)
    for _ in range(200):
        kept = np.ones(net.n_decisions, dtype=bool)
        for edges in (edges for node in net.nodes for edges in node):
            kept[list(edges)] = False
            kept[rng.choice(edges, net.inputs, replace=False)] = True
        chosen = rng.integers(len(net.choices), size=net.n_decisions)
        chosen = np.where(net.selectable[np.arange(net.n_decisions), chosen], chosen, net.selectable.argmax(axis=1))
        (row,) = space.check(net.genotype(chosen, kept)[None])
        np.testing.assert_array_equal(net.decisions(row[None])[0], np.where(kept, chosen, -1))


def test_steps_hold_every_decision_once_and_nodes_the_edges_that_may_go(space):
    net = small(space)
    assert sorted(decision for step in net.steps for decision in step) == list(range(net.n_decisions))
    if not isinstance(space, DARTS):
        assert net.nodes == ()
        return
    assert net.steps[3] == (3, 17)  # the normal cell first
    assert [[len(edges) for edges in node] for node in net.nodes] == [[3, 3], [4, 4], [5, 5]]
    assert net.nodes[0] == ((2, 3, 4), (16, 17, 18))
    assert sorted(e for node in net.nodes for edges in node for e in edges) == [*range(2, 14), *range(16, 28)]


def test_weights_come_from_the_seed_alone(space):
    before = torch.get_rng_state()
    first, again, other = small(space), small(space), small(space, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    states = [torch.cat([value.flatten() for value in net.state_dict().values()]) for net in (first, again, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_a_mixture_of_another_shape_a_space_without_supernet_and_impossible_sizes_are_refused(space):
    net = small(space)
    with pytest.raises(InputError, match=r"the mixture of this supernet is \(\d+, \d\), got \(3, 5\)"):
        net(images(), torch.ones(3, 5))
    with pytest.raises(InputError, match=r"'fbnet' has no supernet; spaces that have: nasbench201, darts, darts-s1"):
        supernet(FBNet(), classes=5, in_channels=2, seed=0)
    with pytest.raises(InputError, match="channels must be an integer of at least 1"):
        supernet(space, classes=5, in_channels=2, seed=0, channels=0)
