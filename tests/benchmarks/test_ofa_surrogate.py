"""The surrogate of once-for-all: its two parts, what it refuses, the original files."""

import pickle
import struct
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from nasplug.benchmarks import open_benchmark
from nasplug.benchmarks.base import Signal
from nasplug.benchmarks.importers import ImportOptions, add, detect, import_files
from nasplug.benchmarks.importers.ofa import _layer_names, read_note10_tables, read_predictor
from nasplug.benchmarks.ofa_surrogate import LAYERS, NAME, OFASurrogate, check_part, part_path, write_part
from nasplug.benchmarks.search import search
from nasplug.errors import DataError, InputError, UnknownNameError
from nasplug.plugins.cli.app import app
from nasplug.registry import configure
from nasplug.spaces import OFAMobileNetV3
from nasplug.strategies import Status

SPACE = OFAMobileNetV3()
RESOLUTIONS = np.arange(160, 225, 4)


def predictor(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = {}
    for layer, (a, b) in enumerate(pairwise(LAYERS)):
        arrays[f"weight_{layer}"] = rng.normal(0, a**-0.5, (a, b)).astype(np.float32)
        arrays[f"bias_{layer}"] = rng.normal(0, 0.1, b).astype(np.float32)
    return arrays


def tables() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "resolutions": RESOLUTIONS,
        "blocks_ms": rng.uniform(0.5, 2.0, (len(RESOLUTIONS), 20, 9)),
        "rest_ms": rng.uniform(3.0, 4.0, len(RESOLUTIONS)),
    }


def drawn(n: int = 200) -> np.ndarray:
    rows = SPACE.sample(n, np.random.default_rng(0))
    rows[:, -1] = np.maximum(rows[:, -1], 8)  # resolution 160 and up
    return rows


@pytest.fixture(scope="module")
def surrogate() -> OFASurrogate:
    return OFASurrogate({"accuracy_predictor": predictor(), "note10_tables": tables()})


# -- labels ----------------------------------------------------------------------------------------------------------


def test_accuracy_is_the_published_network(surrogate):
    torch = pytest.importorskip("torch")
    arrays, layers = predictor(), []
    for layer, (a, b) in enumerate(pairwise(LAYERS)):
        linear = torch.nn.Linear(a, b)
        linear.weight.data = torch.tensor(arrays[f"weight_{layer}"].T)
        linear.bias.data = torch.tensor(arrays[f"bias_{layer}"])
        layers += [linear, torch.nn.ReLU()]
    rows = drawn(5000)
    expected = torch.nn.Sequential(*layers[:-1])(torch.tensor(SPACE.encode(rows, "ofa")))[:, 0].detach().numpy()
    np.testing.assert_allclose(surrogate.query(rows, "valid"), expected, atol=1e-5)
    assert surrogate.query(rows, "valid").dtype == np.float64
    assert surrogate.query(rows[:0], "valid").shape == (0,)


def test_latency_is_a_sum_over_layers(surrogate):
    rows, held = drawn(30), tables()
    s = SPACE.settings(rows)
    for i, ms in enumerate(surrogate.query(rows, "latency_note10_ms")):
        at = (s.resolution[i] - 160) // 4
        total = held["rest_ms"][at]
        for block in range(20):
            if block % 4 < s.depth[i, block // 4]:
                form = 3 * (3, 5, 7).index(s.kernel[i, block]) + (3, 4, 6).index(s.expand[i, block])
                total += held["blocks_ms"][at, block, form]
        assert ms == pytest.approx(total)


def test_low_resolutions_have_no_label(surrogate):
    rows = drawn(5)
    rows[3, -1] = 7
    for metric in ("valid", "latency_note10_ms"):
        with pytest.raises(DataError, match=r"resolutions from 160 on, row 3 is 156:"):
            surrogate.query(rows, metric)


@pytest.mark.parametrize("spec", ["random", "ofa-evolution:population=10", "local-search", "weaknas"])
def test_searches_stay_where_labels_are(surrogate, spec):
    strategy = configure("strategy", spec, surrogate.space)
    steps = list(search(strategy, surrogate, Signal("valid"), budget=30, seed=0))
    assert {step.observation.status for step in steps} == {Status.OK}
    rows = np.array([step.observation.genotype for step in steps])
    assert (SPACE.settings(rows).resolution >= 160).all()
    assert pickle.loads(pickle.dumps(surrogate.space)) == surrogate.space


def test_it_refuses_what_it_does_not_hold(surrogate):
    rows = drawn(2)
    with pytest.raises(UnknownNameError, match="latency_note10_ms"):
        surrogate.query(rows, "latency_note20_ms")
    with pytest.raises(DataError, match=r"valid@12 does not exist"):
        surrogate.query(rows, "valid", epochs=12)
    with pytest.raises(DataError, match="training seed 1 does not exist"):
        surrogate.query(rows, "valid", seed=1)
    np.testing.assert_array_equal(surrogate.query(rows, "valid", seed=0), surrogate.query(rows, "valid"))
    assert surrogate.n_seeds("valid") == 1
    assert surrogate.architectures() is None
    with pytest.raises(DataError, match=r"has no latency_note10_ms yet; nasplug data add note10_lookup_tables"):
        OFASurrogate({"accuracy_predictor": predictor()}).query(rows, "latency_note10_ms")
    with pytest.raises(DataError, match=r"needs its accuracy predictor; nasplug data add accuracy_predictor.pth"):
        OFASurrogate({"note10_tables": tables()})


def test_the_checksum_is_of_all_numbers(surrogate):
    again = OFASurrogate({"note10_tables": tables(), "accuracy_predictor": predictor()})
    assert again.provenance() == surrogate.provenance()
    assert again.costs() == ("latency_note10_ms",)
    for parts in (
        {"accuracy_predictor": predictor()},
        {"accuracy_predictor": predictor(1), "note10_tables": tables()},
    ):
        assert OFASurrogate(parts).provenance()["checksum"] != surrogate.provenance()["checksum"]


def test_it_is_fast(surrogate):
    import time

    rows = drawn(20_000)
    started = time.process_time()
    surrogate.query(rows, "latency_note10_ms")
    surrogate.query(rows[:5000], "valid")
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("accuracy_predictor", {"weight_0": np.zeros((127, 400), np.float32)}, "should have the arrays"),
        ("accuracy_predictor", {"more": np.zeros(1)}, "should have the arrays"),
        ("accuracy_predictor", {"bias_3": np.array([np.nan], np.float32)}, "not finite"),
        ("accuracy_predictor", {"bias_3": np.array(["a"])}, "not finite"),
        ("note10_tables", {"resolutions": RESOLUTIONS + 4}, "resolutions 160 to 224"),
        ("note10_tables", {"rest_ms": np.zeros(17)}, "not above zero"),
    ],
)
def test_parts_are_checked(part, change, message):
    arrays = (predictor() if part == "accuracy_predictor" else tables()) | change
    with pytest.raises(DataError, match=message):
        check_part(part, arrays)


# -- files -----------------------------------------------------------------------------------------------------------


class _Pid:
    def __init__(self, key: str, size: int):
        self.key, self.size = key, size


class _Rebuild:
    """Pickles as torch does: a call of torch._utils._rebuild_tensor_v2."""

    def __init__(self, pid: _Pid, shape: tuple[int, ...], name: tuple[str, str]):
        self.pid, self.shape, self.name = pid, shape, name


class _Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    def persistent_id(self, obj: object) -> object:
        if isinstance(obj, _Pid):
            return "storage", _Global("torch", "FloatStorage"), obj.key, "cpu", obj.size, None
        return None

    def save(self, obj: object, save_persistent_id: bool = True) -> None:
        if isinstance(obj, _Global):
            self.write(f"c{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, _Rebuild):
            self.save(_Global(*obj.name))
            stride = (obj.shape[1], 1) if len(obj.shape) == 2 else (1,)
            self.save((obj.pid, 0, obj.shape, stride, False, OrderedDict()))
            self.write(b"R")
        else:
            super().save(obj, save_persistent_id)


class _Global:
    def __init__(self, module: str, name: str):
        self.module, self.name = module, name


def legacy(
    path: Path, arrays: dict[str, np.ndarray], name: tuple[str, str] = ("torch._utils", "_rebuild_tensor_v2")
) -> Path:
    """Write weights as torch.save did before 1.6."""
    with path.open("wb") as stream:
        for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            stream.write(pickle.dumps(value, 2))
        tensors, data = OrderedDict(), []
        for layer in range(len(LAYERS) - 1):
            for kind, values in (("weight", arrays[f"weight_{layer}"].T), ("bias", arrays[f"bias_{layer}"])):
                pid = _Pid(str(len(data)), values.size)
                tensors[f"{2 * layer}.{kind}"] = _Rebuild(pid, values.shape, name)
                data.append(np.ascontiguousarray(values, "<f4").tobytes())
        _Pickler(stream, 2).dump(tensors)
        stream.write(pickle.dumps([str(i) for i in range(len(data))], 2))
        for one in data:
            stream.write(struct.pack("<q", len(one) // 4) + one)
    return path


def folder(path: Path) -> Path:
    """Write made-up Note10 tables as YAML."""
    path.mkdir()
    held = tables()
    for at, resolution in enumerate(RESOLUTIONS.tolist()):
        names, fixed = _layer_names(resolution)
        table = {name: {"count": 3, "mean": float(held["rest_ms"][at] / len(fixed)), "std": 0.1} for name in fixed}
        # Blocks two to four of a stage are the same layer.
        for block, forms in enumerate(names):
            for form, name in enumerate(forms):
                table.setdefault(name, {"count": 3, "mean": float(held["blocks_ms"][at, block, form]), "std": 0.1})
        (path / f"{resolution}_lookup_table.yaml").write_text(yaml.safe_dump(table))
    return path


def test_weights_come_back(tmp_path):
    read = read_predictor(legacy(tmp_path / "accuracy_predictor.pth", predictor()))
    for name, values in predictor().items():
        np.testing.assert_array_equal(read[name], values)
        assert read[name].dtype == np.float32


def test_hostile_and_damaged_weights_are_refused(tmp_path):
    path = tmp_path / "accuracy_predictor.pth"
    with pytest.raises(DataError, match="cannot read"):
        read_predictor(path)
    legacy(path, predictor(), ("os", "system"))
    with pytest.raises(DataError, match=r"asks for os.system"):
        read_predictor(path)
    data = legacy(path, predictor()).read_bytes()
    path.write_bytes(data[:-10])
    with pytest.raises(DataError, match="truncated"):
        read_predictor(path)
    path.write_bytes(pickle.dumps(5))
    with pytest.raises(DataError, match="not the published accuracy predictor"):
        read_predictor(path)
    legacy(path, predictor() | {"weight_1": np.zeros((400, 401), np.float32)})
    with pytest.raises(DataError, match=r"no layer \(400, 400\)"):
        read_predictor(path)
    head = b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {}))
    path.write_bytes(head + pickle.dumps([1], 2) + pickle.dumps([], 2))
    with pytest.raises(DataError, match="does not hold the weights"):
        read_predictor(path)
    path.write_bytes(head + pickle.dumps({"0.weight": 3}, 2) + pickle.dumps(["0"], 2) + struct.pack("<q", 2**40))
    with pytest.raises(DataError, match="truncated, or larger"):
        read_predictor(path)


def test_tables_come_back(tmp_path):
    read = read_note10_tables(folder(tmp_path / "note10_lookup_tables"))
    held = tables()
    np.testing.assert_array_equal(read["resolutions"], RESOLUTIONS)
    np.testing.assert_allclose(read["rest_ms"], held["rest_ms"])
    np.testing.assert_allclose(read["blocks_ms"][:, 0::4], held["blocks_ms"][:, 0::4])
    np.testing.assert_allclose(read["blocks_ms"][:, 2], held["blocks_ms"][:, 1])


def test_names_are_the_published_ones():
    names, fixed = _layer_names(160)
    assert fixed == [
        "Conv-input:160x160x3-output:80x80x24",
        "expanded_conv-input:80x80x24-output:80x80x24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0",
        "Conv_1-input:5x5x192-output:5x5x1152",
        "AvgPool2D-input:5x5x1152-output:1x1x1152",
        "Conv_2-input:1x1x1152-output:1x1x1536",
        "Logits-input:1x1x1536-output:1000",
    ]
    assert names[0][0] == "expanded_conv-input:80x80x24-output:40x40x32-expand:72-kernel:3-stride:2-idskip:0-se:0-hs:0"
    assert (
        names[12][8] == "expanded_conv-input:10x10x96-output:10x10x136-expand:576-kernel:7-stride:1-idskip:0-se:1-hs:1"
    )
    assert names[19][4] == "expanded_conv-input:5x5x192-output:5x5x192-expand:768-kernel:5-stride:1-idskip:1-se:1-hs:1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "is not YAML"),
        ("- a", "no latency table"),
        ("!!python/object/apply:os.system [true]", "is not YAML"),
        ("a: {mean: 1}", "no time in milliseconds for the layer"),
        ("#" * (2**20 + 1), "at most"),
    ],
)
def test_damaged_tables_are_refused(tmp_path, text, message):
    (tmp_path / "160_lookup_table.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        read_note10_tables(tmp_path)


def test_a_missing_resolution_is_named(tmp_path):
    path = folder(tmp_path / "tables")
    (path / "188_lookup_table.yaml").unlink()
    with pytest.raises(DataError, match=r"188_lookup_table\.yaml"):
        read_note10_tables(path)


# -- the data folder -------------------------------------------------------------------------------------------------


@pytest.fixture
def empty_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NASPLUG_DATA", str(tmp_path / "data"))


@pytest.mark.usefixtures("empty_folder")
def test_add_brings_both_parts(tmp_path):
    with pytest.raises(DataError, match="needs its accuracy predictor"):
        open_benchmark(NAME)
    path = folder(tmp_path / "note10_lookup_tables")
    assert detect(path) == "ofa-note10-tables"
    (stored,) = add([path], ImportOptions())
    assert stored.benchmark is None
    assert "needs its accuracy predictor" in stored.messages[0]
    result = CliRunner().invoke(app, ["data", "add", str(legacy(tmp_path / "acc_predictor.pth", predictor()))])
    assert result.exit_code == 0
    assert "has valid now" in result.output
    assert "valid is a prediction" in result.output
    opened = open_benchmark(NAME)
    rows = drawn(50)
    expected = OFASurrogate({"accuracy_predictor": predictor(), "note10_tables": read_note10_tables(path)})
    for metric in ("valid", "latency_note10_ms"):
        np.testing.assert_array_equal(opened.query(rows, metric), expected.query(rows, metric))
    again = CliRunner().invoke(app, ["data", "add", str(path), "--json"])
    assert '"latency_note10_ms"' in again.output


@pytest.mark.usefixtures("empty_folder")
def test_add_refuses_what_makes_no_sense(tmp_path):
    path = legacy(tmp_path / "accuracy_predictor.pth", predictor())
    with pytest.raises(InputError, match="one at a time"):
        add([path, path], ImportOptions())
    with pytest.raises(InputError, match="leave out --name"):
        add([path], ImportOptions(), name="mine")
    with pytest.raises(InputError, match="makes no table"):
        import_files([path], ImportOptions())
    with pytest.raises(DataError, match="cannot read"):
        add([tmp_path / "acc_predictor_missing.pth"], ImportOptions(), kind="ofa-accuracy-predictor")
    assert not part_path("accuracy_predictor").exists()


@pytest.mark.usefixtures("empty_folder")
def test_a_damaged_part_says_how_to_get_it_again():
    path = write_part("accuracy_predictor", predictor())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"is damaged.*nasplug data add accuracy_predictor.pth again"):
        open_benchmark(NAME)
    np.savez(path, weight_0=np.zeros(3))
    with pytest.raises(DataError, match="should have the arrays"):
        open_benchmark(NAME)
    with path.open("wb") as file:
        file.truncate(2**26 + 1)
    with pytest.raises(DataError, match="expected a few million"):
        open_benchmark(NAME)


# -- the published files ---------------------------------------------------------------------------------------------


@pytest.mark.reference
def test_published_files(reference_data, empty_folder):
    """The tables give the published latencies of 10,000 networks, the predictor what torch makes of it."""
    source = reference_data / "ofa_mobilenetv3"
    for name in ("accuracy_predictor.pth", "note10_lookup_tables"):
        add([source / name], ImportOptions())
    opened = open_benchmark(NAME)
    with np.load(reference_data / "latency" / "glp_ofa_note10_lut.npz") as file:
        rows = SPACE.from_settings(*(file[key] for key in ("kernel", "expand", "depth", "resolution")))
        published = file["latency_ms"]
    np.testing.assert_allclose(opened.query(rows, "latency_note10_ms"), published, rtol=2e-6)
    accuracy = opened.query(rows, "valid")
    assert 0.75 < accuracy.min() < accuracy.max() < 0.84
    torch = pytest.importorskip("torch")
    weights = torch.load(source / "accuracy_predictor.pth", weights_only=True, map_location="cpu")
    hidden = torch.tensor(SPACE.encode(rows, "ofa"))
    for layer in (0, 2, 4):
        hidden = torch.relu(hidden @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"])
    expected = (hidden @ weights["6.weight"].T + weights["6.bias"])[:, 0].numpy()
    np.testing.assert_allclose(accuracy, expected, atol=1e-6)
