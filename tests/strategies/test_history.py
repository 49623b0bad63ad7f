import numpy as np
import pytest

from nasplug.errors import InputError
from nasplug.spaces import NASBench201
from nasplug.strategies import History, Observation, Status

SPACE = NASBench201()
ROWS = SPACE.sample(4, np.random.default_rng(0))


def test_records_and_columns_agree():
    records = [Observation(tuple(ROWS[i].tolist()), (float(i),)) for i in range(3)]
    records.append(Observation(tuple(ROWS[3].tolist()), (float("nan"),), Status.FAILED))
    history = History.of(SPACE, records)
    np.testing.assert_array_equal(history.genotypes, ROWS)
    np.testing.assert_array_equal(history.finished, [True, True, True, False])
    assert records[2].value == 2.0
    assert history.best() == 2
    assert len(History.of(SPACE, [])) == 0


def test_extended_leaves_the_original():
    first = History.empty(SPACE).extended(ROWS[:2], np.array([0.1, 0.2]))
    second = first.extended(ROWS[2:], np.full(2, np.nan), Status.RUNNING)
    assert (len(first), len(second)) == (2, 4)
    assert second.status.tolist() == [0, 0, Status.RUNNING, Status.RUNNING]


def test_the_incumbent_is_feasible_first_and_earliest():
    history = History.empty(SPACE).extended(ROWS, np.array([5.0, 2.0, 2.0, 1.0]), violation=np.array([1.0, 0, 0, 0]))
    assert history.best() == 1
    worse = History.empty(SPACE).extended(ROWS, np.ones(4), violation=np.array([3.0, 2.0, 2.5, 9.0]))
    assert worse.best() == 1
    assert History.empty(SPACE).best() is None


@pytest.mark.parametrize(
    ("genotypes", "values", "status", "message"),
    [
        (ROWS[:, :5], np.zeros((4, 1)), np.zeros(4), r"genotypes \(n, 6\), got \(4, 5\)"),
        (ROWS, np.zeros(4), np.zeros(4), r"values \(n, m\)"),
        (ROWS, np.zeros((3, 1)), np.zeros(4), "history of 4 rows"),
        (ROWS, np.full((4, 1), np.nan), np.zeros(4), "record it as FAILED"),
    ],
)
def test_bad_columns_are_refused(genotypes, values, status, message):
    with pytest.raises(InputError, match=message):
        History(SPACE, genotypes, values, status.astype(np.int8), np.zeros(4))


def test_curves_have_a_column_a_fidelity():
    rows = SPACE.sample_distinct(3, np.random.default_rng(0))
    history = History.empty(SPACE, fidelities=(1, 3, 9))
    assert history.curves.shape == (0, 3)
    curves = np.array([[0.1, np.nan, np.nan], [0.2, 0.3, 0.4]])
    history = history.extended(rows[:2], [0.1, 0.4], Status.PRUNED, curves=curves).extended(rows[2:], [0.5])
    np.testing.assert_array_equal(history.curves, [*curves, [np.nan] * 3])
    assert history.fidelities == (1, 3, 9)
    with pytest.raises(ValueError, match="read-only"):
        history.curves[0] = 1.0
    columns = SPACE.all()[:1], np.zeros((1, 1)), np.zeros(1, np.int8), np.zeros(1)
    for fidelities, f in (((1, 3, 9), 3), ((), 0)):
        with pytest.raises(InputError, match=rf"expects curves \(1, {f}\), one column a fidelity, got \(1, 2\)"):
            History(SPACE, *columns, fidelities, np.zeros((1, 2)))


def test_without_fidelities_there_are_no_curves():
    history = History.empty(SPACE).extended(SPACE.all()[:2], [0.1, 0.2])
    assert history.curves.shape == (2, 0)
