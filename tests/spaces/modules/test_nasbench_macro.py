import numpy as np
import pytest
import torch
from torch import nn

from nasplug.errors import InputError
from nasplug.spaces import NASBenchMacro
from nasplug.spaces.modules import nasbench_macro
from nasplug.spaces.modules.build import network

SPACE = NASBenchMacro()


def sides(net, images):
    seen = []
    for layer in net.layers:
        layer.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape[1:3])))
    net.eval()(images)
    return seen


@pytest.mark.parametrize("code", [0, 1, 2])
def test_stages_double_the_width_and_halve_the_sides(code):
    net = nasbench_macro.network(np.full(8, code))
    assert sides(net, torch.zeros(1, 3, 32, 32)) == [(64, 16)] * 2 + [(128, 8)] * 3 + [(256, 4)] * 3


@pytest.mark.parametrize(
    ("strides", "expected"),
    [((2, 2, 2), [4, 4, 2, 2, 2, 1, 1, 1]), ((1, 2, 2), [8, 8, 4, 4, 4, 2, 2, 2]), ((1, 1, 1), [8] * 8)],
)
def test_strides_are_chosen_for_small_images(strides, expected):
    net = network(
        SPACE, np.array([0, 1, 2, 0, 1, 1, 0, 2]), classes=7, in_channels=1, seed=0, stem=4, width=32, strides=strides
    )
    assert [side for _, side in sides(net, torch.zeros(2, 1, 8, 8))] == expected
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 7)


def test_stem_and_last_convolution_are_activated():
    net = nasbench_macro.network(np.array([1, 0, 2, 0, 1, 1, 0, 2]), stem=4, width=32)
    seen = {}
    for name in ("stem", "layers", "last", "head"):
        net.get_submodule(name).register_forward_hook(lambda _, args, out, name=name: seen.update({name: (*args, out)}))
    net(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    for before, after in (("stem", "layers"), ("last", "head")):
        assert seen[before][1].min() < 0
        assert torch.equal(seen[after][0], seen[before][1].clamp(min=0))


def test_odd_sides_round_up():
    net = nasbench_macro.network(np.array([0, 1, 2, 0, 1, 1, 0, 2]), stem=4, width=32)
    assert [side for _, side in sides(net, torch.zeros(1, 3, 7, 7))] == [4, 4, 2, 2, 2, 1, 1, 1]


@pytest.mark.parametrize(("name", "kernel", "expansion"), [("mbconv_k3_e3", 3, 3), ("mbconv_k5_e6", 5, 6)])
def test_inverted_residual(name, kernel, expansion):
    block = nasbench_macro.operation(name, 4, 8, 2).eval()
    hidden = expansion * 4
    assert [tuple(p.shape) for p in block.parameters() if p.ndim == 4] == [
        (hidden, 4, 1, 1),
        (hidden, 1, kernel, kernel),
        (8, hidden, 1, 1),
    ]
    assert not any(name.endswith("bias") and "norm" not in name for name, _ in block.named_parameters())
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    scale = (1 + 1e-5) ** -0.5
    hidden_x = (scale * nn.functional.conv2d(x, block.layers.expand.weight)).clamp(min=0)
    depthwise = nn.functional.conv2d(
        hidden_x, block.layers.depthwise.weight, stride=2, padding=kernel // 2, groups=hidden
    )
    expected = scale * nn.functional.conv2d((scale * depthwise).clamp(min=0), block.layers.project.weight)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(("inputs", "outputs", "stride", "added"), [(4, 4, 1, 1), (4, 8, 1, 0), (4, 4, 2, 0)])
def test_shortcut_only_where_shape_and_width_stay(inputs, outputs, stride, added):
    block = nasbench_macro.operation("mbconv_k3_e3", inputs, outputs, stride)
    nn.init.zeros_(block.layers.project_norm.weight)
    x = torch.rand(2, inputs, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x), x) if added else not block(x).any()


def test_identity_resizes_without_activation():
    assert isinstance(nasbench_macro.operation("identity", 4, 4, 1), nn.Identity)
    for outputs, stride in ((8, 2), (8, 1)):
        op = nasbench_macro.operation("identity", 4, outputs, stride)
        out = op(torch.randn(16, 4, 8, 8, generator=torch.Generator().manual_seed(0)))
        assert out.shape == (16, outputs, 8 // stride, 8 // stride)
        assert out.min() < 0


@pytest.mark.parametrize("strides", [(2, 2), (2, 2, 3), (0, 1, 1)])
def test_other_strides_are_refused(strides):
    with pytest.raises(InputError, match="each 1 or 2, one a stage"):
        nasbench_macro.network(np.zeros(8, dtype=np.int64), strides=strides)


@pytest.mark.parametrize("sizes", [{"stem": 0}, {"width": 0}, {"classes": 0}, {"in_channels": 0}])
def test_sizes_that_make_no_network_are_refused(sizes):
    with pytest.raises(InputError, match="must be an integer of at least 1"):
        nasbench_macro.network(np.zeros(8, dtype=np.int64), **sizes)
