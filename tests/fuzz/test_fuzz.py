"""Damaged files end in a result or one clear error; thousands more: ``benchmarks/reproduce/fuzz.py``."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "reproduce" / "fuzz.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_script"] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


fuzz = load()
WATCH = fuzz.Watch()
NEED = {"ofa-predictor": "torch", "checkpoint": "torch", "study": "plotly"}
EXAMPLES = {"checkpoint": 2, "study": 5, "ofa-predictor": 4}
PART = st.floats(0, 1, exclude_max=True)
MUTATIONS = st.lists(
    st.tuples(st.integers(0, 5), PART, PART, st.sampled_from(fuzz.TOKENS) | st.binary(max_size=8)),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    if name in NEED:
        pytest.importorskip(NEED[name])
    target = fuzz.TARGETS[name]()
    files = target.make(tmp_path)
    target.read(tmp_path)

    @settings(
        max_examples=EXAMPLES.get(name, 25),
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
        database=None,
    )
    @given(file=st.sampled_from(files), mutations=MUTATIONS, inside=st.none() | PART)
    def damaged(file: Path, mutations: list[tuple[int, float, float, bytes]], inside: float | None) -> None:
        data = fuzz.damaged(file.read_bytes(), mutations, inside)
        assert fuzz.attempt(target, tmp_path, file, data, WATCH) is None

    damaged()


def test_a_fault_is_found(tmp_path: Path) -> None:
    """Errors of other kinds, programs that are started and time that is lost do not pass unseen."""
    path = tmp_path / "file"
    path.write_bytes(b"valid")

    def target(read: object) -> object:
        return fuzz.Target(lambda folder: [path], read)

    def raising(folder: Path) -> None:
        raise KeyError(path.read_bytes())

    def starting(folder: Path) -> None:
        sys.audit("os.system", b"false")

    assert fuzz.attempt(target(raising), tmp_path, path, b"damaged", WATCH) == "KeyError: b'damaged'"
    assert fuzz.attempt(target(starting), tmp_path, path, b"", WATCH) == "did os.system(b'false',)"
    assert fuzz.attempt(target(lambda folder: None), tmp_path, path, b"", WATCH) is None
    assert path.read_bytes() == b"valid"  # as it was


def test_archives_are_packed_again_around_the_damage() -> None:
    import gzip

    data = gzip.compress(b"abcdef", mtime=0)
    assert gzip.decompress(fuzz.damaged(data, [(0, 0.5, 0.0, b"X")], 0.0)) == b"abcXef"
    assert fuzz.mutate(b"abcdef", [(2, 0.5, 0.0, b""), (1, 0.0, 0.0, b"12"), (4, 0.9, 0.0, b"")]) == b"12abcef"[:6]
