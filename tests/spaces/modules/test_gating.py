"""Gates on networks of every shape, and the slim networks that closed gates leave."""

import copy
import pickle
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nasplug.errors import InputError
from nasplug.spaces.modules import convnets
from nasplug.spaces.modules.counting import count_multiply_adds, count_params
from nasplug.spaces.modules.flow import Emptied
from nasplug.spaces.modules.gating import Gated
from nasplug.spaces.modules.proxyless import MBConv, Mixture, SuperProxyless
from nasplug.spaces.modules.slimming import Spread, slimmed

IMAGE = (3, 16, 16)

# -- networks of others' making, in miniature: the module structure and the calls are torchvision's --------------------


def conv_norm(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class Bottleneck(nn.Module):
    def __init__(self, inplanes: int, planes: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = conv_norm(inplanes, planes, 1)
        self.conv2, self.bn2 = conv_norm(planes, planes, 3, stride)
        self.conv3, self.bn3 = conv_norm(planes, 4 * planes, 1)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inplanes != 4 * planes:
            self.downsample = nn.Sequential(*conv_norm(inplanes, 4 * planes, 1, stride))

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """ResNet-50's shape, ``width`` channels where it has 64."""

    def __init__(self, width: int, blocks=(3, 4, 6, 3)):
        super().__init__()
        self.conv1, self.bn1 = conv_norm(3, width, 7, 2)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        inputs = width
        for number, count in enumerate(blocks):
            planes = width * 2**number
            stage = []
            for place in range(count):
                stage.append(Bottleneck(inputs, planes, 2 if number and not place else 1))
                inputs = 4 * planes
            setattr(self, f"layer{number + 1}", nn.Sequential(*stage))
        self.stages = len(blocks)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(inputs, 10)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for number in range(self.stages):
            x = getattr(self, f"layer{number + 1}")(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


class InvertedResidual(nn.Module):
    def __init__(self, inp: int, oup: int, stride: int, expand: int):
        super().__init__()
        hidden = inp * expand
        layers = [] if expand == 1 else [nn.Sequential(*conv_norm(inp, hidden, 1), nn.ReLU6(inplace=True))]
        layers += [nn.Sequential(*conv_norm(hidden, hidden, 3, stride, hidden), nn.ReLU6(inplace=True))]
        layers += conv_norm(hidden, oup, 1)
        self.conv = nn.Sequential(*layers)
        self.use_res_connect = stride == 1 and inp == oup

    def forward(self, x):
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


SETTING = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


class MobileNetV2(nn.Module):
    """MobileNetV2's shape, all widths divided by ``by``."""

    def __init__(self, by: int, setting=SETTING):
        super().__init__()
        inputs = 32 // by
        features = [nn.Sequential(*conv_norm(3, inputs, 3, 2), nn.ReLU6(inplace=True))]
        for t, c, n, s in setting:
            for place in range(n):
                features.append(InvertedResidual(inputs, c // by, s if place == 0 else 1, t))
                inputs = c // by
        features.append(nn.Sequential(*conv_norm(inputs, 1280 // by, 1), nn.ReLU6(inplace=True)))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280 // by, 10))

    def forward(self, x):
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), (1, 1)).reshape(x.shape[0], -1))


class VGG(nn.Module):
    """A VGG with biases, and a classifier on all pixels."""

    def __init__(self):
        super().__init__()
        layers, inputs = [], 3
        for width in (8, 8, "M", 12, 12, "M"):
            if width == "M":
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
                inputs = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(12 * 16, 20), nn.ReLU(True), nn.Dropout(), nn.Linear(20, 10))

    def forward(self, x):
        x = self.features(x)
        x = x.view(x.size(0), -1)
        return self.classifier(x)


class Odds(nn.Module):
    """Concatenation, squeeze-and-excitation, grouped and transposed convolutions, shapes asked for, parameters."""

    def __init__(self):
        super().__init__()
        self.left = nn.Sequential(*conv_norm(3, 6), nn.Hardswish())
        self.right = nn.Sequential(*conv_norm(3, 10), nn.SiLU())
        self.mixed = nn.Sequential(*conv_norm(16, 12), nn.GELU(), nn.AvgPool2d(2))
        self.squeeze, self.excite = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)
        self.grouped = nn.Sequential(*conv_norm(12, 12, groups=3), nn.LeakyReLU())
        self.last = nn.Sequential(*conv_norm(12, 8, 1), nn.Tanh())
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.scale = nn.Parameter(torch.full((1, 8, 1, 1), 1.5))
        self.fc = nn.Linear(8, 10)

    def forward(self, x):
        x = self.mixed(torch.cat([self.left(x), self.right(x)], dim=1))
        x = x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        n, c, h, w = x.shape
        shuffled = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = self.last(self.grouped(2 * shuffled / 3))
        x = self.up(F.interpolate(x, size=(x.size(2), x.size(3)))) * self.scale
        return self.fc(x.mean(dim=[2, 3]))


def super_proxyless() -> nn.Module:
    return SuperProxyless(stem=4, first=4, stages=((6, 2, 1), (8, 1, 2)), last=10, stem_stride=1, classes=10)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vgg": lambda: convnets.vgg(plan=((6, 8), (10, 12))),
    "resnet": lambda: convnets.resnet(plan=((6, 2), (8, 2))),
    "mobilenet": lambda: convnets.mobilenet(plan=((2, 6, 2, 1), (3, 8, 2, 2)), ends=(5, 12)),
    "torchvision-style vgg": VGG,
    "torchvision-style resnet": lambda: ResNet(4, (2, 2)),
    "torchvision-style mobilenet": lambda: MobileNetV2(4, ((1, 16, 1, 1), (6, 24, 2, 2))),
    "odds and ends": Odds,
    "supernet": super_proxyless,
}


def made(name: str) -> nn.Module:
    """A network in double precision in which every number is one of its own."""
    generator = torch.Generator().manual_seed(0)
    net = NETWORKS[name]().double()
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.is_floating_point():
            tensor.data += 0.2 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
    return net


def images(n: int = 4) -> torch.Tensor:
    return torch.randn(n, *IMAGE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def random_masks(gated: Gated, share: float, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    ranking = {name: rng.random(len(gate.scores)) for name, gate in gated.gates.items()}
    counts = [max(1, rng.binomial(len(gate.scores), share)) for gate in gated.gates.values()]
    return gated.masks_of(counts, ranking)


# -- gates -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_open_gates_change_nothing_and_the_network_is_left_alone(name):
    net = made(name).eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    gated = Gated(net, IMAGE, residual="own").eval()
    with torch.no_grad():
        torch.testing.assert_close(gated(images()), net(images()), rtol=0, atol=0)
    for part in net.modules():
        part.train()
    Gated(net, IMAGE, residual="own")
    assert all(part.training for part in net.modules())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    weights = {id(weight) for weight in gated.weights()}
    assert len(weights) == len(list(net.parameters()))
    assert not weights & {id(scores) for scores in gated.scores()}


def test_gates_stand_where_the_paper_has_them():
    """Their number grows with the widths, so a fraction of the width has that fraction of the published numbers."""

    def gates(net: nn.Module, **options) -> int:
        return sum(len(gate.scores) for gate in Gated(net, (3, 32, 32), **options).gates.values())

    vgg16 = convnets.vgg(plan=((8, 8), (16, 16), (32, 32, 32), (64, 64, 64), (64, 64, 64)))
    assert gates(vgg16) * 8 == 4224
    assert gates(ResNet(8), residual="own", leave=["*.downsample.*"]) * 8 == 22720
    assert gates(MobileNetV2(8), residual="own") * 8 == 9920


def test_a_depthwise_gate_takes_its_expansion_along():
    gated = Gated(made("mobilenet"), IMAGE)
    assert not any("expand" in name for name in gated.gates)
    masks = gated.open_masks()
    masks["stage1.block2.depthwise.norm"][3:] = False
    slim = slimmed(gated, masks)
    block = slim.stage1.block2
    assert block.expand.conv.out_channels == block.expand.norm.num_features == 3
    assert block.depthwise.conv.groups == block.depthwise.conv.in_channels == 3
    assert block.project.conv.in_channels == 3


def test_residual_streams():
    tied = Gated(made("torchvision-style resnet"), IMAGE)
    stream = next(group for group in tied.groups if group.name == "layer1.0.bn3")
    assert stream.layers == ("layer1.0.bn3", "layer1.0.downsample.1", "layer1.1.bn3")
    own = Gated(made("torchvision-style resnet"), IMAGE, residual="own")
    assert len(own.gates) == len([name for group in tied.groups for name in group.layers])
    assert {group.name for group in own.groups if not group.required} == {
        "layer1.0.bn3", "layer1.0.downsample.1", "layer1.1.bn1", "layer1.1.bn2", "layer1.1.bn3",
        "layer2.0.bn3", "layer2.0.downsample.1", "layer2.1.bn1", "layer2.1.bn2", "layer2.1.bn3",
    } | {"layer1.0.bn1", "layer1.0.bn2", "layer2.0.bn1", "layer2.0.bn2"}  # fmt: skip
    none = Gated(made("torchvision-style resnet"), IMAGE, residual="none")
    assert list(none.gates) == ["bn1", *(f"layer{i}.{j}.bn{k}" for i in (1, 2) for j in (0, 1) for k in (1, 2))]


def test_a_block_whose_gates_are_closed_is_its_shortcut():
    gated = Gated(made("torchvision-style resnet"), IMAGE, residual="own").eval()
    masks = gated.open_masks()
    masks["layer1.1.bn3"][:] = False
    slim = slimmed(gated, masks)
    assert not any(name.startswith("layer1.1.") for name, _ in slim.named_parameters())
    features: dict[str, torch.Tensor] = {}
    gated.set_masks(masks)
    gated.set_mode("hard")
    for name in ("layer1.0.relu", "layer1.1.relu"):  # each ends in the one behind the addition
        gated.network.get_submodule(name).register_forward_hook(
            lambda _, x, y, name=name: features.update({name: y.clone()})
        )
    with torch.no_grad():
        torch.testing.assert_close(slim(images()), gated(images()), rtol=0, atol=1e-12)
    torch.testing.assert_close(features["layer1.1.relu"], features["layer1.0.relu"], rtol=0, atol=0)


def test_a_sum_with_one_open_candidate_is_that_candidate():
    layer = Mixture(6, 8, 2).double()
    net = nn.Sequential(*conv_norm(3, 6), nn.ReLU(), layer, nn.Conv2d(8, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = net.double().eval()
    gated = Gated(net, IMAGE, residual="own").eval()
    masks = gated.open_masks()
    for name in masks:
        masks[name][:] = "candidates" not in name or "k5_e6" in name
    one = copy.deepcopy(net)
    one[3] = layer.candidates["k5_e6"]
    slim = slimmed(gated, gated.settled(masks))
    with torch.no_grad():
        expected = one(images())
        torch.testing.assert_close(slim(images()), expected, rtol=0, atol=1e-12)
    assert count_params(slim) == count_params(one)


def test_the_published_supernet():
    net = SuperProxyless()
    assert count_params(net) == 16_034_168
    gated = Gated(net, (3, 32, 32), residual="own")
    assert sum(len(scores) for scores in gated.scores()) == 60_704
    cost = gated.cost(gated.open_masks())
    assert cost.params == 16_034_168
    assert cost.flops == count_multiply_adds(net, (3, 32, 32))


def test_layers_of_the_supernet_fall_back_to_their_shortcut():
    gated = Gated(super_proxyless(), IMAGE, residual="own")
    masks = gated.open_masks()
    for name in masks:
        if name.startswith("stage1_layer2") and "depthwise" in name:
            masks[name][:] = False
    settled = gated.settled(masks)
    assert not any(mask.any() for name, mask in settled.items() if name.startswith("stage1_layer2"))
    assert all(mask.all() for name, mask in settled.items() if not name.startswith("stage1_layer2"))
    slim = slimmed(gated, settled)
    assert not any(name.startswith("stage1_layer2") for name, _ in slim.named_parameters())
    for name in masks:
        masks[name][:] = not name.startswith("stage2_layer1")  # this one has no shortcut
    with pytest.raises(
        Emptied, match=r"stage2_layer1\.candidates\.k3_e3\.project_norm are off, so last_norm has nothing"
    ):
        gated.settled(masks)


# -- slim networks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
@pytest.mark.parametrize("residual", ["tied", "own", "none"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_slim_network_is_the_gated_one_and_costs_what_was_said(name, residual, share):
    gated = Gated(made(name), IMAGE, residual=residual).eval()
    masks = random_masks(gated, share)
    slim = slimmed(gated, masks)
    gated.set_masks(masks)
    gated.set_mode("hard")
    with torch.no_grad():
        torch.testing.assert_close(slim(images()), gated(images()), rtol=1e-12, atol=1e-12)
    cost = gated.cost(masks)
    assert cost.params == count_params(slim)
    assert cost.flops == count_multiply_adds(slim, IMAGE)
    assert cost.params < count_params(made(name)) or share == 1.0
    if residual != "own":
        assert not any(isinstance(part, Spread) for part in slim.modules()) or name == "odds and ends"


@pytest.mark.parametrize("name", NETWORKS)
def test_soft_gates_come_to_the_slim_network_as_the_scale_grows(name):
    gated = Gated(made(name), IMAGE).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for one in gated.scores():
            drawn = torch.randn(one.shape, generator=generator, dtype=one.dtype)
            one.copy_(drawn + 0.034 * drawn.sign())
            one[0] = 1.0
        masks = gated.settled({key: (gate.scores > 0).numpy() for key, gate in gated.gates.items()})
        slim, gaps = slimmed(gated, masks)(images()), []
        for key, gate in gated.gates.items():  # a gate without which nothing flows has no say
            gate.scores[torch.from_numpy(~masks[key])] = -1.0
        for scale in (1.0, 10.0, 100.0, 1e3, 1e4):
            gated.set_mode("soft", scale)
            gaps.append(float((gated(images()) - slim).abs().max()))
    assert gaps[2] < 0.1 * gaps[0]
    # Where gates are near one half, a larger scale need not be nearer; at the end nothing but rounding is left.
    assert all(after <= before + 1e-12 for before, after in pairwise(gaps[1:]))
    assert gaps[3] < 1e-12
    assert gaps[4] < 1e-12


def test_a_slim_network_trains_as_the_gated_one():
    gated = Gated(made("torchvision-style mobilenet"), IMAGE).train()
    gated.network.get_submodule("classifier.0").p = 0.0
    masks = random_masks(gated, 0.5)
    slim = slimmed(gated, masks)
    assert slim.training
    gated.set_masks(masks)
    gated.set_mode("hard")
    torch.testing.assert_close(slim(images()), gated(images()), rtol=1e-10, atol=1e-10)
    gated.eval()
    slim.eval()
    torch.testing.assert_close(slim(images()), gated(images()), rtol=1e-10, atol=1e-10)
    weights = dict(gated.network.named_parameters())
    assert not {id(weight) for weight in slim.parameters()} & {id(weight) for weight in weights.values()}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_slim_network_has_weights_of_its_own(name):
    gated = Gated(made(name), IMAGE)
    mine = {id(one) for one in (*gated.parameters(), *gated.buffers())}
    for masks in (gated.open_masks(), random_masks(gated, 0.5)):
        slim = slimmed(gated, masks)
        theirs = {id(one) for one in (*slim.parameters(), *slim.buffers())}
        assert theirs
        assert not mine & theirs
        mine |= theirs


def test_frozen_layers_stay_frozen_and_copies_work():
    net = made("vgg")
    net.stage1.conv1.conv.weight.requires_grad_(False)
    gated = copy.deepcopy(Gated(net, IMAGE))
    slim = slimmed(gated, random_masks(gated, 0.5))
    assert not slim.stage1.conv1.conv.weight.requires_grad
    assert slim.stage1.conv2.conv.weight.requires_grad


@pytest.mark.parametrize("name", ["torchvision-style resnet", "torchvision-style mobilenet", "supernet"])
def test_a_slim_network_exports_to_onnx(name, tmp_path):
    onnxruntime = pytest.importorskip(
        "onnxruntime", reason="ONNX Runtime is not installed: pip install 'nasplug[onnx]'"
    )
    onnx = pytest.importorskip("onnx")
    gated = Gated(made(name), IMAGE, residual="own").eval()
    slim = slimmed(gated, random_masks(gated, 0.5)).float()
    assert any(isinstance(part, Spread) for part in slim.modules())
    path = tmp_path / "slim.onnx"
    torch.onnx.export(slim, (images().float(),), path, input_names=["images"], output_names=["logits"], dynamo=False)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    (logits,) = onnxruntime.InferenceSession(path.read_bytes()).run(None, {"images": images().float().numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(logits, slim(images().float()).numpy(), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vgg11_bn", "densenet121", "mobilenet_v3_small"])
def test_models_of_torchvision(name):
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # its extension does not fit every build of torch
        pytest.skip(f"torchvision does not work here: {error}")
    net = getattr(models, name)(weights=None).double()
    for residual in ("tied", "own"):
        gated = Gated(net, (3, 32, 32), residual=residual).eval()
        masks = random_masks(gated, 0.5)
        slim = slimmed(gated, masks)
        gated.set_masks(masks)
        gated.set_mode("hard")
        pixels = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            torch.testing.assert_close(slim(pixels), gated(pixels), rtol=1e-10, atol=1e-10)
        assert gated.cost(masks).params == count_params(slim)


# -- bad input ---------------------------------------------------------------------------------------------------------


class Wrap(nn.Module):
    def __init__(self, forward: Callable, **modules: nn.Module):
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


def block(inputs: int = 3, outputs: int = 3) -> nn.Sequential:
    return nn.Sequential(*conv_norm(inputs, outputs), nn.ReLU())


def plain(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.Conv2d(3, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_an_activation_that_does_not_keep_zero_is_named():
    for act in (nn.Sigmoid(), nn.Hardtanh(0.5, 1.0), nn.Softplus()):
        net = plain(*conv_norm(3, 3), act)
        with pytest.raises(InputError, match=r"2 does not keep zero, so closing channels of 1 would not remove them"):
            Gated(net, IMAGE)
        with pytest.raises(InputError, match="no gate would remove anything: none of those that leave= left over"):
            Gated(net, IMAGE, leave=["1"])
    net = Wrap(lambda self, x: self.head(self.body(x) + 1), body=block(), head=plain())
    with pytest.raises(InputError, match="add does not keep zero"):
        Gated(net, IMAGE)
    swish = Wrap(lambda self, x: self.head((y := self.body(x)) * torch.sigmoid(y)), body=block(), head=plain())
    assert list(Gated(swish, IMAGE).gates) == ["body.1"]


def test_what_is_used_twice_is_named():
    body = block()
    with pytest.raises(InputError, match=r"used more than once.*: body\.0, body\.1"):
        Gated(Wrap(lambda self, x: self.head(self.body(self.body(x))), body=body, head=plain()), IMAGE)
    other = block()
    other[0].weight = body[0].weight
    with pytest.raises(InputError, match=r"share a weight.*: 0\.0, 1\.0"):
        Gated(plain(body, other), IMAGE)


def test_networks_without_a_place_for_gates():
    with pytest.raises(InputError, match="no batch-norm behind a convolution"):
        Gated(plain(nn.Conv2d(3, 3, 1), nn.ReLU()), IMAGE)
    ends = nn.Sequential(*conv_norm(3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(InputError, match="none of 1 leads to a convolution"):
        Gated(ends, IMAGE)
    with pytest.raises(InputError, match=r"leave=\['bn'\] names no batch-norm .* there are 0.1"):
        Gated(plain(block()), IMAGE, leave=["bn"])
    only = Wrap(lambda self, x: self.head(x + self.body(x)), body=nn.Sequential(*conv_norm(3, 3)), head=plain())
    with pytest.raises(InputError, match="all gates would stand on residual streams"):
        Gated(only, IMAGE, residual="none")


def test_a_stream_that_something_without_a_gate_feeds_is_refused_by_name():
    net = Wrap(
        lambda self, x: self.head(self.stem(x) + self.short(x)), stem=block(), short=nn.Conv2d(3, 3, 1), head=plain()
    )
    with pytest.raises(InputError, match=r"residual stream of stem\.1 is also fed by short, which has no gate"):
        Gated(net, IMAGE)
    assert list(Gated(net, IMAGE, residual="own").gates) == ["stem.1"]
    with pytest.raises(InputError, match=r"layer1\.0\.downsample\.1"):
        Gated(made("torchvision-style resnet"), IMAGE, leave=["*.downsample.*"])


def test_networks_that_cannot_be_traced_or_run():
    with pytest.raises(InputError, match=r"torch\.fx cannot trace Wrap"):
        Gated(Wrap(lambda self, x: x if x.sum() > 0 else -x, body=block()), IMAGE)
    with pytest.raises(InputError, match=r"does not run on images of shape \(1, 16, 16\)"):
        Gated(plain(block()), (1, 16, 16))
    for forward in (
        lambda self, x: self.head(F.dropout(self.body(x), 0.1, self.training)),
        lambda self, x: self.head(F.feature_alpha_dropout(self.body(x), 0.1, training=self.training)),
    ):
        with pytest.raises(InputError, match="differs between training and evaluation"):
            Gated(Wrap(forward, body=block(), head=plain()), IMAGE)


def test_a_layer_without_channels_is_named():
    gated = Gated(made("vgg"), IMAGE)
    masks = gated.open_masks()
    masks["stage1.conv2.norm"][:] = False
    with pytest.raises(
        Emptied, match=r"all channels of stage1\.conv2\.norm are off, so stage2\.conv1\.norm has nothing"
    ):
        slimmed(gated, masks)
    with pytest.raises(Emptied, match=r"stage1\.conv2\.norm are off") as caught:
        gated.settled(masks)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_masks_counts_and_options_are_checked():
    gated = Gated(made("vgg"), IMAGE)
    masks = gated.open_masks()
    for bad in (np.ones(5, bool), np.ones(6)):
        with pytest.raises(InputError, match=r"group stage1\.conv1\.norm needs a mask of 6 bools"):
            gated.cost(masks | {"stage1.conv1.norm": bad})
    with pytest.raises(InputError, match="no group is called nobody"):
        gated.set_masks(masks | {"nobody": np.ones(6, bool)})
    ranking = {name: np.arange(len(mask)) for name, mask in masks.items()}
    kept = gated.masks_of([1, 2, 3, 0], ranking)
    assert [mask.sum() for mask in kept.values()] == [1, 2, 3, 0]
    assert kept["stage1.conv2.norm"].tolist() == [False] * 6 + [True] * 2
    with pytest.raises(InputError, match="expected 4 counts"):
        gated.masks_of([1, 2, 3], ranking)
    with pytest.raises(InputError, match="has 6 channels, cannot keep 7"):
        gated.masks_of([7, 2, 3, 0], ranking)
    with pytest.raises(InputError, match="residual must be tied, own or none"):
        Gated(made("vgg"), IMAGE, residual="both")
    with pytest.raises(InputError, match="stages need width"):
        SuperProxyless(stages=())
    assert MBConv(4, 6, 1, 3, 1)(torch.randn(2, 4, 5, 5)).shape == (2, 6, 5, 5)
