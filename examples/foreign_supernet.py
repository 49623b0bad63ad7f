"""Perturbation-based selection on a supernet that nasplug knows nothing about.

    python examples/foreign_supernet.py

All that a selector asks of a supernet is a function of images and a mixture, one row of weights a decision. Here the
network is somebody else's: three blocks, each a choice of four operations, that keep their weights in a list. Five
lines make it one (`forward`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasplug.images import load_images
from nasplug.strategies.supernet.data import halves
from nasplug.strategies.supernet.evaluation import evaluator, require_masks
from nasplug.strategies.supernet.selectors import Perturbation

NAMES = ("skip", "linear", "wide", "noise")


class TheirBlock(nn.Module):
    """Somebody else's block: it mixes its operations by weights that it keeps to itself."""

    def __init__(self, width: int, generator: torch.Generator):
        super().__init__()
        self.operations = nn.ModuleList(
            [nn.Identity(), nn.Linear(width, width), nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(),
             nn.Linear(4 * width, width)), nn.Identity()]
        )  # fmt: skip
        self.weights = [0.25] * 4
        self.norm = nn.BatchNorm1d(width)
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn(x.shape, generator=self.generator)
        outputs = [*(operation(x) for operation in self.operations[:3]), noise]
        return torch.relu(self.norm(sum(w * out for w, out in zip(self.weights, outputs, strict=True))))


def main() -> None:
    torch.set_num_threads(1)
    data = halves(load_images("digits"))
    generator = torch.Generator().manual_seed(0)
    blocks = [TheirBlock(32, generator) for _ in range(3)]
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), *blocks, nn.Linear(32, 10))

    def forward(images: Tensor, mixture: Tensor) -> Tensor:
        """The adapter: put the mixture where the network looks for it."""
        generator.manual_seed(0)
        for block, weights in zip(blocks, mixture, strict=True):
            block.weights = list(weights)
        return net(images)

    mixture = torch.full((3, 4), 0.25)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for epoch in range(15):
        for images, labels in data.weights.batches(64, [0, epoch]):
            loss = F.cross_entropy(forward(images, mixture), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    # A plain function keeps its norms in training mode; given the module as forward, the evaluator would see to it.
    evaluate = evaluator(forward, data.selection)
    require_masks(forward, data.selection.images, mixture)
    print(f"supernet: accuracy {evaluate(mixture)[0]:.3f}")
    for decision in range(3):
        removals = Perturbation("loss").operation(evaluate, mixture, decision, [True] * 4)
        mixture[decision] = F.one_hot(torch.tensor(removals.chosen), 4)
        print(f"block {decision}: {NAMES[removals.chosen]}, accuracy then {evaluate(mixture)[0]:.3f}")


if __name__ == "__main__":
    main()
