"""The drawings of the report and the numbers as it writes them, each by itself."""

import re
from typing import Any

import numpy as np
import pytest

from nasplug import registry
from nasplug.benchmarks.report.architecture import describe
from nasplug.benchmarks.report.drawing import draw
from nasplug.benchmarks.report.ranking import cliques, diagram
from nasplug.benchmarks.report.scatter import scatter, ticks
from nasplug.benchmarks.report.texts import cell, join, percent, short, with_interval
from nasplug.spaces import Graph

DRAWN = ["nasbench201", "darts", "darts-s1", "nasbench-graph", "nasbench-graph-proteins", "nasbench-macro", "fbnet",
         "elastic", "ofa-mobilenetv3", "single-path-digits"]  # fmt: skip
Box = tuple[float, float, float, float]


def boxes(svg: str, kinds: str) -> list[Box]:
    """Left, top, right and bottom of the boxes of some classes."""
    found = re.findall(rf'<rect class="(?:{kinds})" x="([\d.-]+)" y="([\d.-]+)" width="([\d.]+)" height="(\d+)"', svg)
    sizes = [tuple(map(float, one)) for one in found]
    return [(x, y, x + width, y + height) for x, y, width, height in sizes]


def segments(svg: str) -> list[Box]:
    """The straight parts of all lines."""
    parts = []
    for steps in re.findall(r'<path class="line" d="([^"]+)"', svg):
        if "C" in steps:
            continue  # the bends of a tree
        x = y = 0.0
        for letter, numbers in re.findall(r"([MHV])([\d. -]+)", steps):
            values = [float(v) for v in numbers.split()]
            new = tuple(values) if letter == "M" else (values[0], y) if letter == "H" else (x, values[0])
            if letter != "M":
                parts.append((min(x, new[0]), min(y, new[1]), max(x, new[0]), max(y, new[1])))
            x, y = new
    return parts


def overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def crosses(line: Box, box: Box) -> bool:
    """Whether an upright line goes through a box."""
    x, top, bottom = line[0], line[1], line[3]
    return line[0] == line[2] and box[0] < x < box[2] and top < box[3] - 1 and bottom > box[1] + 1


@pytest.mark.parametrize("name", DRAWN)
def test_drawings_fit_and_nothing_covers_a_text(name: str) -> None:
    space = registry.load("space", name)()
    for genotype in space.sample(40, np.random.default_rng(0)):
        for graph in space.graphs(genotype):
            svg = draw(graph)
            width, height = (float(v) for v in re.findall(r'viewBox="0 0 (\d+) (\d+)"', svg)[0])
            nodes, labels = boxes(svg, "end|idle|node"), boxes(svg, "label|label idle")
            assert len(nodes) == len(graph.nodes)
            assert len(labels) == sum(bool(text) for *_, text in graph.edges)
            every = nodes + labels
            assert all(x >= 0 and y >= 0 and right <= width + 1 and low <= height + 1 for x, y, right, low in every)
            assert not any(overlap(a, b) for i, a in enumerate(every) for b in every[i + 1 :])
            assert not any(crosses(line, label) for line in segments(svg) for label in labels)
            assert svg.count('class="tip"') == len(graph.edges)


def test_edges_without_text_share_a_lane() -> None:
    """The concatenation at a DARTS cell's output is one bar, not one lane a node."""
    space = registry.load("space", "darts")()
    svg = draw(space.graphs(space.sample(1, np.random.default_rng(0))[0])[0])
    ends = [re.findall(r"V([\d.]+)H([\d.]+)V", steps)[0] for steps in re.findall(r'class="line" d="([^"]+)"', svg)
            if "V" in steps]  # fmt: skip
    assert len(ends) - len(set(ends)) >= 2


def test_texts_of_a_graph_are_escaped() -> None:
    svg = draw(Graph("<b>", ("a<b", 'x"y'), ((0, 1, "<i>"), (0, 1, "again"))))
    assert "<b>" not in svg
    assert "<i>" not in svg
    assert "a&lt;b → x&quot;y: &lt;i&gt;" in svg


@pytest.mark.parametrize(
    ("ranks", "distance", "expected"),
    [
        ([1.0, 2.0, 3.0], 0.5, []),
        ([1.0, 2.0, 3.0], 1.5, [(0, 1), (1, 2)]),
        ([1.0, 2.0, 3.0], 2.0, [(0, 1), (1, 2)]),  # exactly the critical difference is a difference
        ([1.0, 1.2, 1.4, 4.0], 2.9, [(0, 2), (1, 3)]),
        ([1.0, 2.0, 3.0], 9.0, [(0, 2)]),
    ],
)
def test_cliques_are_the_longest(ranks: list[float], distance: float, expected: list[tuple[int, int]]) -> None:
    assert cliques(ranks, distance) == expected


def test_diagram_puts_the_best_left_and_shortens_names() -> None:
    names = {"b": 2.0, "a" * 60: 1.0, "c<i>": 3.0}
    svg = diagram(names, dict.fromkeys(names, 0), 5.0, "label")
    at = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', svg)]
    assert at == sorted(at)
    assert "aaa… <tspan" in svg
    assert "c&lt;i&gt;" in svg
    assert "(longer than the axis)" in svg


def test_scatter_keeps_every_dot_inside_and_omits_what_is_far_below() -> None:
    dots = [(5.0, 91.0), (8.0, 92.0)]
    front = [(1.0, 10.0), (4.0, 91.5), (9.0, 93.0)]
    svg = scatter("label", "latency, ms", front, {"s": (3, 1, dots, [(2.0, 20.0), (5.0, 91.0)])})
    width, height = (int(v) for v in re.findall(r'viewBox="0 0 (\d+) (\d+)"', svg)[0])
    circles = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.-]+)" cy="([\d.-]+)"', svg)]
    assert len(circles) == 2
    assert all(0 < x < width and 0 < y < height for x, y in circles)
    assert circles[0][0] < circles[1][0]
    assert circles[0][1] > circles[1][1]  # better is higher up
    assert svg.split('class="front" d="')[1].split('"')[0].count("V") == 2  # the front begins where the picture does
    assert 'data-strategy="3"' in svg
    assert scatter("label", "axis", front, {"s": (0, 0, [], [])}) == ""
    assert scatter("label", "axis", [], {"s": (0, 0, [(5.0, 90.0)] * 3, [])}).count("<circle") == 3  # one place only


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (87.3, 91.9), (0.012, 0.013), (-3.0, 250.0)])
def test_ticks_are_few_and_round(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 7
    assert all(low <= v <= high for v in found)
    steps = np.diff(found)
    np.testing.assert_allclose(steps, steps[0])
    assert f"{steps[0]:.0e}"[0] in "125"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7.1449, "7.14"), (20.0, "20"), (542.2, "542"), (73306, "73.3 k"), (1.27e6, "1.27 M"), (2e9, "2 G")],
)
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text


def test_cells() -> None:
    assert cell(0.5, scale=100) == {"text": "50.00", "sort": 0.5, "note": ""}
    assert cell(-0.0001)["text"] == "0.00"  # no minus before a zero
    assert cell(None) == cell(float("nan")) == {"text": "–", "sort": "", "note": ""}
    assert percent(-1.5)["text"] == "−1.50 %"
    assert with_interval(cell(1.0), [0.5, 1.5])["note"] == "[0.50, 1.50]"
    assert with_interval(cell(1.0), [None, 1.5])["note"] == ""
    assert join(["a"]) == "a"
    assert join(["a", "b", "c"]) == "a, b and c"


# --- architectures ---------------------------------------------------------------------------------------------------


def about(space: str, **more: Any) -> dict[str, Any]:
    return {"space": space, "optimum": 0.9} | more


def test_architecture_that_can_be_drawn_is() -> None:
    found = {"architecture": "22212220", "value_mean": 0.8, "runs": 2, "strategies": {"b": 1, "a": 1}}
    told = describe(found, about("nasbench-macro"))
    assert told is not None
    assert (
        told["words"]
        == "80.00 % reported; 10.00 points below the best of the table; recommended by 2 runs of a (1) and b (1)."
    )
    assert told["graphs"][0]["lines"][0] == "stage 1: input, mbconv_k5_e6, mbconv_k5_e6"


def test_architecture_without_a_picture_is_its_parameters() -> None:
    space = registry.load("space", "vgg-widths")()
    text = space.to_string(space.sample(1, np.random.default_rng(0)))[0]
    told = describe({"architecture": text, "value_mean": 0.8}, about("vgg-widths", optimum=None))
    assert told is not None
    assert told["words"] == "80.00 % reported."
    assert [name for name, _ in told["parameters"]] == [p.name for p in space.parameters]


@pytest.mark.parametrize(
    ("text", "space"), [("22212220", "nasbench201"), ("anything", "unheard-of"), ("<script>", "darts")]
)
def test_architecture_of_no_known_space_is_its_string(text: str, space: str) -> None:
    told = describe({"architecture": text, "value_mean": 0.8}, about(space))
    assert told is not None
    assert (told["text"], told["graphs"], told["parameters"]) == (text, [], [])


@pytest.mark.parametrize("found", [{}, {"architecture": 3, "value_mean": 0.5}, {"architecture": "x"}])
def test_no_architecture(found: dict[str, Any]) -> None:
    assert describe(found, about("nasbench201")) is None
