import json
import subprocess
import sys

import numpy as np
import pytest

from nasplug.errors import InputError
from nasplug.spaces import (
    DARTS,
    DARTSS1,
    DARTSS2,
    DARTSS3,
    DARTSS4,
    NASBench201,
    NASBenchGraph,
    NASBenchMacro,
    SinglePathDigits,
    SinglePathImageNetSE,
)
from nasplug.spaces.modules import complexity
from nasplug.spaces.modules.build import network
from nasplug.spaces.modules.counting import count_multiply_adds, count_params

TOPOLOGY, MACRO, CELLS = NASBench201(), NASBenchMacro(), DARTS()


def test_six_convolutions_have_the_published_number_of_parameters():
    assert complexity.nasbench201_params(np.full((1, 6), 3)).tolist() == [1_531_546]


def test_chains_of_one_operation_have_the_published_numbers():
    chains = MACRO.from_string(["00000000", "22222222"])
    assert complexity.nasbench_macro_params(chains).tolist() == [387_882, 2_932_586]
    assert complexity.nasbench_macro_flops(chains).tolist() == [7_713_280, 105_660_928]


@pytest.mark.reference
def test_every_chain_agrees_with_the_table(reference_data):
    table = json.loads((reference_data / "nasbench_macro" / "nas-bench-macro_cifar10.json").read_text())
    chains = MACRO.from_string(list(table))
    assert len(chains) == 6561
    assert complexity.params(MACRO, chains).tolist() == [row["params"] for row in table.values()]
    assert complexity.flops(MACRO, chains).tolist() == [row["flops"] for row in table.values()]


@pytest.mark.reference
@pytest.mark.parametrize("index", [0, 11, 284])
def test_cells_agree_with_nats_bench(reference_data, index):
    from nats_bench import create

    folder = reference_data / "nats_tss_sample" / "NATS-tss-v1_0-3ffb9-simple"
    api = create(str(folder), "tss", fast_mode=True, verbose=False)
    cell = TOPOLOGY.from_string([api.arch(index)])
    for data, classes, size in (("cifar10", 10, 32), ("cifar100", 100, 32), ("ImageNet16-120", 120, 16)):
        cost = api.get_cost_info(index, data)
        assert complexity.params(TOPOLOGY, cell, classes=classes)[0] == round(1e6 * cost["params"])
        assert complexity.flops(TOPOLOGY, cell, classes=classes, size=size)[0] == round(1e6 * cost["flops"])


SIZES = [
    (TOPOLOGY, {}, 32, 4),
    (TOPOLOGY, {"channels": 5, "cells": 1, "classes": 3, "in_channels": 1}, 8, 20),
    (TOPOLOGY, {"channels": 4, "cells": 2, "classes": 7, "in_channels": 2}, 12, 10),
    (MACRO, {}, 32, 4),
    (MACRO, {"stem": 5, "width": 24, "classes": 3, "in_channels": 1, "strides": (1, 2, 2)}, 8, 20),
    (MACRO, {"stem": 4, "width": 24, "classes": 3, "in_channels": 2, "strides": (2, 1, 2)}, 7, 10),
    (CELLS, {"channels": 8, "layers": 8, "classes": 7, "in_channels": 1}, 32, 4),
    (CELLS, {"channels": 5, "layers": 3, "classes": 3}, 8, 10),
    (CELLS, {"channels": 4, "layers": 1}, 8, 5),
    (CELLS, {"channels": 4, "layers": 2}, 8, 5),
    *((space(), {"channels": 4, "layers": 3}, 8, 5) for space in (DARTSS1, DARTSS2, DARTSS3, DARTSS4)),
    (SinglePathDigits(), {"in_channels": 1}, 8, 5),
    (SinglePathImageNetSE(), {"stem": 5, "first": 4, "widths": (6, 8, 8, 9, 4), "width": 7, "classes": 3}, 33, 10),
]


@pytest.mark.parametrize(("space", "sizes", "size", "n"), SIZES)
def test_closed_forms_agree_with_built_networks(space, sizes, size, n):
    genotypes = space.sample(n, np.random.default_rng(size))
    skeleton = {"classes": 10, "in_channels": 3, **sizes}
    nets = [network(space, genotype, seed=0, **skeleton) for genotype in genotypes]
    image = (skeleton["in_channels"], size, size)
    measured = [count_multiply_adds(net, image, bias=space is TOPOLOGY) for net in nets]
    assert complexity.params(space, genotypes, **sizes).tolist() == [count_params(net) for net in nets]
    assert complexity.flops(space, genotypes, size=size, **sizes).tolist() == measured


def test_cells_with_other_node_numbers_cost_the_same():
    cells = CELLS.from_string(
        [
            "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('dil_conv_5x5', 0), ('skip_connect', 1), "
            "('max_pool_3x3', 2), ('max_pool_3x3', 3), ('skip_connect', 0), ('skip_connect', 1)], "
            "normal_concat=range(2, 6), reduce=[('skip_connect', 0), ('skip_connect', 1), ('sep_conv_5x5', 0), "
            "('skip_connect', 1), ('max_pool_3x3', 2), ('skip_connect', 3), ('skip_connect', 0), "
            "('skip_connect', 1)], reduce_concat=range(2, 6))",
            "Genotype(normal=[('dil_conv_5x5', 0), ('skip_connect', 1), ('sep_conv_3x3', 0), ('skip_connect', 1), "
            "('max_pool_3x3', 2), ('max_pool_3x3', 3), ('skip_connect', 0), ('skip_connect', 1)], "
            "normal_concat=range(2, 6), reduce=[('sep_conv_5x5', 0), ('skip_connect', 1), ('skip_connect', 0), "
            "('skip_connect', 1), ('max_pool_3x3', 3), ('skip_connect', 2), ('skip_connect', 0), "
            "('skip_connect', 1)], reduce_concat=range(2, 6))",
        ]
    )
    assert len(set(CELLS.canonical(cells).tolist())) == 1
    assert len(set(complexity.params(CELLS, cells).tolist())) == 1
    assert len(set(complexity.flops(CELLS, cells).tolist())) == 1


def test_chains_of_one_class_cost_the_same():
    chains = MACRO.all()
    costs = np.stack([MACRO.canonical(chains), complexity.params(MACRO, chains), complexity.flops(MACRO, chains)])
    assert len(np.unique(costs, axis=1).T) == len(np.unique(costs[0])) == 3969


def test_an_empty_batch_is_counted():
    for space in (TOPOLOGY, MACRO, CELLS):
        nothing = space.sample(1, np.random.default_rng(0))[:0]
        for count in (complexity.params, complexity.flops):
            assert count(space, nothing).shape == (0,)
            assert count(space, nothing).dtype == np.int64


@pytest.mark.parametrize("space", [TOPOLOGY, CELLS])
def test_images_that_cannot_be_halved_twice_are_refused(space):
    with pytest.raises(InputError, match=f"{space.name!r} need images with sides divisible by 4, got 30"):
        complexity.flops(space, space.sample(1, np.random.default_rng(0)), size=30)


@pytest.mark.parametrize("space", [TOPOLOGY, MACRO, CELLS])
@pytest.mark.parametrize("sizes", [{"classes": 0}, {"in_channels": 0}])
def test_sizes_that_make_no_network_are_refused(space, sizes):
    one = space.sample(1, np.random.default_rng(0))
    for count in (complexity.params, complexity.flops):
        with pytest.raises(InputError, match="must be an integer of at least 1"):
            count(space, one, **sizes)


def test_spaces_without_networks_and_foreign_genotypes_are_refused():
    space = NASBenchGraph()
    with pytest.raises(InputError, match=r"no networks to count; spaces that have: nasbench201, .*elastic"):
        complexity.params(space, space.sample(1, np.random.default_rng(0)))
    with pytest.raises(InputError, match="is not an architecture"):
        complexity.flops(MACRO, np.full((1, 8), 3))


def test_closed_forms_load_no_torch():
    program = "import sys, nasplug.spaces.modules.complexity; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
