"""Single-Path networks, the supernet that holds them, and what is exported from it."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from nasplug.cost_models.pixel1 import Pixel1
from nasplug.errors import InputError, MissingDependencyError
from nasplug.spaces import NASBench201, NASBenchMacro, SinglePathDigits, SinglePathImageNet, SinglePathImageNetSE
from nasplug.spaces.modules.build import network
from nasplug.spaces.modules.complexity import params
from nasplug.spaces.modules.counting import count_params
from nasplug.spaces.modules.layout import SinglePathSizes
from nasplug.spaces.modules.onnx_files import fold_batch_norms, write_onnx
from nasplug.spaces.modules.seeding import seeded
from nasplug.spaces.modules.single_path import Supernet
from nasplug.spaces.modules.superkernel import JointKernel, NestedSqueeze, SuperBlock
from nasplug.spaces.modules.superkernel_export import extract
from nasplug.strategies.supernet.priced import Price

IMAGENET = SinglePathImageNet()
WINNER = IMAGENET.from_string(["33 33 33 --|56 33 33 33|56 33 33 33|56 53 53 53|56 56 56 56"])
TINY = {"stem": 4, "first": 4, "widths": (4, 4, 6, 6, 8), "final": 8, "width": 8, "classes": 3, "in_channels": 1}
CASES = {
    "macro": (NASBenchMacro(), {"stem": 4, "width": 16, "strides": (1, 2, 2), "classes": 5, "in_channels": 1}),
    "digits": (SinglePathDigits(), {}),
    "imagenet": (IMAGENET, TINY | {"final": 12}),
    "squeezed": (SinglePathImageNetSE(), TINY),  # the last fixed layer adds its input
}


def supernet(case):
    """A supernet in float64 whose norms have seen something."""
    space, sizes = CASES[case]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Supernet(space, skip_resizing=True, **sizes).double()
        for norm in net.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2)
                nn.init.uniform_(norm.weight, 0.5, 2)
                nn.init.normal_(norm.bias)
    return net.eval()


def images(n=3):
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double()


def test_the_published_winner_has_the_published_number_of_parameters():
    assert params(IMAGENET, WINNER).tolist() == [4_421_616]
    assert count_params(network(IMAGENET, WINNER[0], classes=1000, in_channels=3, seed=0)) == 4_421_616


def test_the_published_supernet_is_half_of_four_paths():
    net = Supernet(IMAGENET)
    assert len(net.thresholds()) == 20 * 3 - 5  # the first layer of a stage is always there
    assert sum(w.numel() for w in net.weights()) == 4_833_768
    assert count_params(net) == 4_833_768 + 55


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_what_is_exported_is_the_supernet_as_that_network(case):
    net, space = supernet(case), CASES[case][0]
    x = images()
    for row in [*space.sample(40 // space.n_sites, np.random.default_rng(0)), np.zeros(space.n_sites, dtype=np.int64)]:
        net.force(row)
        expected = net(x)
        np.testing.assert_array_equal(net.genotype(), row)
        net.force(None)
        alone = extract(net, row)
        scale = expected.abs().max()
        assert float((alone(x) - expected).abs().max() / scale) < 1e-13
        folded = fold_batch_norms(alone)
        assert float((folded(x) - expected).abs().max() / scale) < 1e-13
        assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
        assert not any(isinstance(part, SuperBlock) for part in alone.modules())
    plain = network(space, row, seed=0, **{"classes": 10, "in_channels": 1, **CASES[case][1]})
    assert [p.shape for p in plain.parameters()] == [p.shape for p in alone.parameters()]


@torch.no_grad()
def test_slicing_without_folding_is_another_function():
    net = supernet("digits")
    row = np.zeros(6, dtype=np.int64)
    net.force(row)
    alone = extract(net, row)
    for block, layer in zip(net.blocks, alone.layers, strict=True):
        layer.layers.project_norm.running_mean.copy_(block.project_norm.running_mean)
    assert (alone(images()) - net(images())).abs().max() > 1e-3


def test_single_precision_agrees_to_1e_5():
    net = supernet("digits").float()
    x = images().float()
    with torch.no_grad():
        expected = net(x)
        np.testing.assert_allclose(extract(net)(x), expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("case", CASES)
def test_weights_decide_by_thresholds(case):
    net, space = supernet(case), CASES[case][0]
    np.testing.assert_array_equal(net.genotype(), space.n_choices - np.array([1 + (p.choices[-1] == "skip")
                                                                             for p in space.parameters]))  # fmt: skip
    assert set(net.gates) == {f"layer_{i + 1}.{g}" for i, b in enumerate(net.blocks) for g in gates_of(b)}
    nn.init.constant_(net.gates["layer_2.keep"].threshold, 1e3)
    nothing = 0 if case == "macro" else space.skip
    assert net.genotype()[1] == nothing
    assert [int(choice.argmax()) for choice in net.choices()] == net.genotype().tolist()


def gates_of(block):
    joint = hasattr(block.kernel, "grown")
    names = ["grown"] if joint else ["ring", "upper"]
    names += ["keep"] if block.kernel.skippable else []
    return names + [f"gates.{i}" for i in range(len(block.squeeze.widths) if block.squeeze else 0)]


def test_weights_and_thresholds_are_all_parameters_and_all_learn():
    net = supernet("digits").train()
    assert len(list(net.weights())) + len(net.thresholds()) == len(list(net.parameters()))
    (net(images(8)) ** 2).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert all(t.grad != 0 for t in net.thresholds())


def test_dropped_decisions_are_drawn_and_taken_back():
    net = supernet("macro")
    before = net.genotype()
    net.drop(np.random.default_rng(0).random, 0.6)
    factors = {gate.factor for gate in net.gates.values()}
    assert factors == {0.0, 1 / 0.6}
    np.testing.assert_array_equal(net.genotype(), before)
    assert {gate.factor for gate in net.gates.values()} == factors
    with torch.no_grad():
        noisy = net(images())
        exported = extract(net)(images())
        net.drop(None)
        assert not torch.allclose(noisy, net(images()))
        torch.testing.assert_close(exported, net(images()))


def test_weights_come_from_the_seed_alone():
    nets = []
    for _ in range(2):
        with seeded(3):
            nets.append(Supernet(SinglePathDigits()))
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_spaces_without_superkernels_and_foreign_genotypes_are_refused():
    with pytest.raises(InputError, match="'nasbench201' has no superkernels; spaces that have: nasbench-macro, single"):
        Supernet(NASBench201())
    with pytest.raises(InputError, match="is not an architecture"):
        extract(supernet("digits"), np.full(6, 4))
    space, sizes = CASES["macro"]
    for skipped, layer in (((2, 2, 0, 2, 2, 0, 2, 2), "layer_3"), ((0, 0, 2, 2, 2, 2, 2, 2), "layer_1")):
        with pytest.raises(InputError, match=f"{layer} is always there in this supernet"):
            extract(Supernet(space, **sizes), np.array(skipped))


def test_norms_without_statistics_cannot_be_exported():
    net = Supernet(SinglePathDigits(), norm=lambda n: nn.BatchNorm2d(n, track_running_stats=False))
    with pytest.raises(InputError, match="build the supernet with norms that keep them"):
        extract(net)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"widths": (4, 4)}, "5 numbers each, one a stage"),
        ({"strides": (1, 1, 1, 1, 3)}, "strides are 1 or 2"),
        ({"stem_stride": 0}, "strides are 1 or 2"),
        ({"final": 0}, "final must be an integer of at least 1"),
        ({"widths": (4, 4, 4, 4, -1)}, "width 5 must be an integer"),
    ],
)
def test_sizes_that_make_no_network_are_refused(sizes, message):
    with pytest.raises(InputError, match=message):
        SinglePathSizes(**sizes)


# -- onnx --------------------------------------------------------------------------------------------------------------


def test_onnx_runtime_computes_the_same(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    net = extract(supernet("digits").float())
    write_onnx(net, tmp_path / "net.onnx", (1, 8, 8))
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    assert "BatchNormalization" not in str((tmp_path / "net.onnx").read_bytes())
    x = images(5).float()
    (found,) = session.run(None, {"images": x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, net(x), rtol=1e-4, atol=1e-4)


def test_a_file_that_computes_something_else_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    net = extract(supernet("digits").float())
    with pytest.raises(InputError, match="ONNX Runtime's logits are off by"):
        write_onnx(net, tmp_path / "net.onnx", (1, 8, 8), tolerance=-1.0)
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'nasplug\[onnx\]'"):
        write_onnx(net, tmp_path / "net.onnx", (1, 8, 8))


# -- the price of a real supernet --------------------------------------------------------------------------------------


def test_a_forced_supernet_costs_what_the_table_says():
    net, space, model = supernet("imagenet"), IMAGENET, Pixel1(space=IMAGENET)
    price = Price(space, model.predict)
    for row in [WINNER[0], *space.sample(6, np.random.default_rng(0))]:
        net.force(row)
        assert float(price.expected(net.choices())) == pytest.approx(model.predict(row[None])[0], rel=1e-9)
    net.force(None)


def test_a_higher_threshold_never_makes_a_network_dearer():
    net, price = supernet("imagenet"), Price(IMAGENET, Pixel1(space=IMAGENET).predict)
    for blocks in (net.blocks[:10], []):  # some layers skipped, then none
        for block in blocks:
            if block.kernel.keep is not None:
                nn.init.constant_(block.kernel.keep.threshold, 1e6)
        net.zero_grad()
        price.expected(net.choices()).backward()
        slopes = torch.stack([gate.threshold.grad for gate in net.gates.values()])
        assert (slopes <= 0).all()
        assert (slopes < 0).any()


def test_dropout_of_decisions_leaves_shortcuts_and_squeezes_what_they_are():
    kernel = JointKernel(24).double()
    block = SuperBlock(kernel, 4, 8, 2, shortcut=True).double().eval()
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0)).double()
    kernel.keep.factor = 1 / 0.6
    torch.testing.assert_close(block(x), block.branch(x, kernel()))  # kept, and nothing of the shortcut
    kernel.keep.factor = 0.0
    torch.testing.assert_close(block(x) - block.branch(x, kernel()), block.shortcut(x))
    squeeze, h = NestedSqueeze(6, (2, 4)).double(), torch.rand(2, 6, 3, 3).double()
    taken = [one / 0.6 for one in squeeze.indicators()]
    assert (squeeze(h, taken) >= 0).all()  # what is not negative is weighed by a sigmoid
