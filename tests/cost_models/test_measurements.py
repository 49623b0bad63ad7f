import csv
import re

import numpy as np
import pytest

from nasplug.cost_models.measurements import COLUMNS, Measurement, latencies, read_measurements
from nasplug.cost_models.measuring import Protocol, measure
from nasplug.errors import DataError, UnknownNameError
from nasplug.spaces import NASBench201

pytest.importorskip("torch")
QUICK = Protocol(side=8, sizes={"channels": 4, "cells": 1}, spread=1.0, attempts=1)
CELL = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
HEADING = ",".join(COLUMNS)


def cells(n, seed=0):
    return NASBench201().sample_distinct(n, np.random.default_rng(seed))


def test_a_foreign_file_without_a_last_newline_stays_as_it_is(tmp_path):
    path = tmp_path / "grades.csv"
    path.write_text("name,grade\nAnn,1\nBob,2")
    path.chmod(0o444)
    for use in (read_measurements, lambda path: next(measure(NASBench201(), cells(1), path, QUICK))):
        with pytest.raises(DataError, match="line 1: without the columns space, architecture, latency_ms"):
            use(path)
        assert path.read_bytes() == b"name,grade\nAnn,1\nBob,2"


@pytest.mark.parametrize("end", ["", "\r", "\n"])
def test_a_whole_row_that_lacks_its_line_end_is_kept(tmp_path, end):
    path = tmp_path / "rows.csv"
    rows = list(measure(NASBench201(), cells(2), path, QUICK))
    path.write_bytes(path.read_bytes().rstrip() + end.encode())
    held = path.read_bytes()
    assert read_measurements(path) == rows
    assert list(measure(NASBench201(), cells(2), path, QUICK)) == rows
    assert path.read_bytes() == held  # nothing to measure, nothing written
    more = list(measure(NASBench201(), np.concatenate([cells(2), np.full((1, 6), 3)]), path, QUICK))
    assert more[:2] == rows
    assert read_measurements(path) == more


@pytest.mark.parametrize("left", ["nasbench201,|half", f"nasbench201,{CELL},3.1", "\0\0\0", "\xe9"])
def test_what_a_killed_run_left_is_passed_over_and_cut_by_the_next(tmp_path, left):
    path = tmp_path / "rows.csv"
    rows = list(measure(NASBench201(), cells(1), path, QUICK))
    with path.open("a", encoding="latin-1") as file:
        file.write(left)
    held = path.read_bytes()
    assert read_measurements(path) == rows
    assert path.read_bytes() == held
    rows = list(measure(NASBench201(), cells(2), path, QUICK))
    assert read_measurements(path) == rows
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize("left", ["", "space,archi", HEADING, HEADING + "\r\n", HEADING + "\nnasbench201,|ha"])
def test_a_heading_and_no_more_is_no_measurement_yet(tmp_path, left):
    path = tmp_path / "rows.csv"
    path.write_bytes(left.encode())
    assert read_measurements(path) == []
    assert path.read_bytes() == left.encode()
    rows = list(measure(NASBench201(), cells(1), path, QUICK))
    assert read_measurements(path) == rows
    assert path.read_text().splitlines()[0] == HEADING


def test_three_columns_are_enough(tmp_path):
    path = tmp_path / "phone.csv"
    cell, other = NASBench201().to_string(cells(2))
    path.write_text(f"\ufeffarchitecture,spread,space,latency_ms\n{cell},,nasbench201,3.5\n{other},0.1,nasbench201,4")
    rows = read_measurements(path)
    assert rows == [Measurement("nasbench201", cell, 3.5), Measurement("nasbench201", other, 4.0, 0.1)]
    space, genotypes, ms = latencies(rows)
    np.testing.assert_array_equal(genotypes, cells(2))
    assert (space.name, ms.tolist()) == ("nasbench201", [3.5, 4.0])
    with pytest.raises(DataError, match="cannot be continued, its columns are architecture, spread, space, latency_ms"):
        next(measure(NASBench201(), cells(3), path, QUICK))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nasbench201,|a|,fast", "line 3: could not convert string to float: 'fast'"),
        ("nasbench201,|a|,nan", "line 3: latency nan"),
        ("nasbench201,|a|,", "line 3: no latency_ms"),
        ("nasbench201,|a|", "line 3: expected as many values as columns"),
        ("darts,Genotype(a, b),3.0", "line 3: expected as many values as columns; architectures with commas"),
    ],
)
def test_lines_that_are_no_measurement(tmp_path, line, message):
    path = tmp_path / "phone.csv"
    path.write_text(f"space,architecture,latency_ms\nnasbench201,|a|,1.0\n{line}\n")
    with pytest.raises(DataError, match=re.escape(f"is not a file of measurements, {message}")):
        read_measurements(path)


def test_missing_columns_are_named(tmp_path):
    path = tmp_path / "phone.csv"
    path.write_text("architecture,latency_ms\n|a|,1.0\n")
    with pytest.raises(DataError, match="without the columns space; expected space, architecture, latency_ms, it has"):
        read_measurements(path)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "\xff\n", "space,architecture,latency_ms\nx,y,-1\n"])
def test_files_that_hold_no_measurements(tmp_path, text):
    path = tmp_path / "rows.csv"
    path.write_text(text, encoding="latin-1")
    if text:
        with pytest.raises(DataError, match="is not a file of measurements, line"):
            read_measurements(path)
    else:
        with pytest.raises(DataError, match="expected measurements of one space, got 0"):
            latencies(read_measurements(path))


def test_a_file_that_is_missing_or_cannot_be_written(tmp_path):
    with pytest.raises(DataError, match="cannot read the measurements"):
        read_measurements(tmp_path / "none.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        next(measure(NASBench201(), cells(1), tmp_path / "file" / "rows.csv", QUICK))


def test_rows_of_two_spaces_or_an_unknown_one_are_refused(tmp_path):
    path = tmp_path / "rows.csv"
    (row,) = measure(NASBench201(), cells(1), path, QUICK)
    rows = list(csv.reader(path.open()))
    for space, error in (("darts", DataError), ("nasbench-2001", UnknownNameError)):
        with (tmp_path / "two.csv").open("w", newline="") as file:
            csv.writer(file).writerows([rows[0], [space, *rows[1][1:]], *([rows[1]] if space == "darts" else [])])
        with pytest.raises(error):
            latencies(read_measurements(tmp_path / "two.csv"))
    assert row.space == "nasbench201"


def test_seconds_are_not_taken_for_milliseconds():
    def rows(scale, passes):
        strings = NASBench201().to_string(cells(3))
        return [
            Measurement("nasbench201", one, scale * ms, passes=passes)
            for one, ms in zip(strings, (20.0, 30.0, 40.0), strict=True)
        ]

    with pytest.raises(DataError, match=r"median latency is 0\.03 ms.*if these are seconds, multiply by 1000"):
        latencies(rows(1e-3, passes=9))
    latencies(rows(1.0, passes=0))  # written by hand, and plausible
    with pytest.raises(DataError, match=r"median latency is 3e\+07 ms.*micro- or nanoseconds"):
        latencies(rows(1e6, passes=0))
    latencies(rows(1e-3, passes=5000))  # measured: as many passes of 0.03 ms as fill the blocks
