"""NasTuner, called as NNI's dispatcher calls it: what it proposes, learns, records, and that it never raises."""

import http.server
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

nni = pytest.importorskip("nni", reason="NNI is not installed: pip install 'nasplug[nni]'")

from nasplug import registry  # noqa: E402
from nasplug.cost_models.lookup import Lookup  # noqa: E402
from nasplug.errors import InputError  # noqa: E402
from nasplug.plugins.nni import NasTuner  # noqa: E402
from nasplug.plugins.nni.ledger import FILE, Ledger, read_ledger  # noqa: E402
from nasplug.plugins.nni.spaces import search_space  # noqa: E402
from nasplug.spaces import Genotypes, NASBench201  # noqa: E402
from nasplug.strategies import History, RandomSearch, Status, Strategy, trial_rng  # noqa: E402

CELLS = NASBench201()
CELL_SPACE = search_space(CELLS)
SMALL = {"op": {"_type": "choice", "_value": ["a", "b", "c"]}, "width": {"_type": "randint", "_value": [1, 6]}}
SEEN: list[History] = []


@dataclass(frozen=True, kw_only=True)
class Recorder(Strategy):
    """Random search that keeps every history it is given; it can be told to fail."""

    fail: str = ""

    def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        SEEN.append(history)
        if self.fail == "raise":
            raise RuntimeError("a bug in the strategy")
        if self.fail == "invalid":
            return np.full((n, self.space.n_sites), 99)
        return self.space.sample_distinct(n, rng, history.keys)


@pytest.fixture(autouse=True)
def _recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    SEEN.clear()
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda role, name: Recorder if name == "recorder" else load(role, name))


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(tmp_path))
    return tmp_path / FILE


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "nni.nasplug")
    return caplog


def tuner(found: Any = SMALL, **arguments: Any) -> NasTuner:
    made = NasTuner(**{"strategy": "recorder", "seed": 0, **arguments})
    made.update_search_space(found)
    return made


def cells(**arguments: Any) -> NasTuner:
    return tuner(CELL_SPACE, space="nasbench201", **arguments)


def seen(made: NasTuner) -> History:
    """What the strategy would be given now."""
    made.generate_multiple_parameters([10**6 + len(SEEN)])
    return SEEN[-1]


# -- what is proposed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["random", "regularized-evolution", "local-search", "weaknas"])
def test_one_at_a_time_the_sequence_is_that_of_the_plain_loop(strategy: str) -> None:
    made = cells(strategy=strategy, seed=7)
    plain, history = registry.configure("strategy", strategy, CELLS), History.empty(CELLS)
    for number in range(40):
        params = made.generate_parameters(number)
        g = plain.propose(history, 1, trial_rng(7, number))
        assert params == CELLS.to_params(g)[0]
        value = float(g.sum())
        made.receive_trial_result(number, params, {"default": value, "architecture": CELLS.to_string(g)[0]})
        made.trial_end(number, True)
        history = history.extended(g, np.array([value]))


def test_a_batch_is_one_proposal_and_running_trials_are_known() -> None:
    made = cells()
    first = made.generate_multiple_parameters([0, 1, 2, 3])
    expected = RandomSearch(space=CELLS).propose(History.empty(CELLS), 4, trial_rng(0, 0))
    assert first == CELLS.to_params(expected)
    made.receive_trial_result(2, first[2], 0.5)
    second = made.generate_multiple_parameters([4, 5])
    assert SEEN[-1].status.tolist() == [Status.RUNNING, Status.RUNNING, Status.OK, Status.RUNNING]
    assert len({json.dumps(one) for one in first + second}) == 6


def test_minimised_values_are_turned_round() -> None:
    made = tuner(optimize_mode="minimize")
    made.receive_trial_result(0, made.generate_parameters(0), 3.0)
    assert seen(made).values.tolist() == [[-3.0]]


def test_without_a_seed_each_tuner_differs() -> None:
    one, other = (cells(seed=None).generate_multiple_parameters(list(range(5))) for _ in range(2))
    assert one != other


def test_every_type_of_search_space_and_nested_choices() -> None:
    found = {
        "layers": {"_type": "randint", "_value": [1, 4]},
        "momentum": {"_type": "quniform", "_value": [0, 1, 0.25]},
        "rate": {"_type": "loguniform", "_value": [1e-4, 1e-1]},
        "drop": {"_type": "uniform", "_value": [0.0, 0.5]},
        "opt": {
            "_type": "choice",
            "_value": [{"_name": "sgd", "nesterov": {"_type": "choice", "_value": [True, False]}}, {"_name": "adam"}],
        },
    }
    made = tuner(found, strategy="weaknas")
    names = set()
    for number in range(30):
        params = made.generate_parameters(number)
        assert params["layers"] in (1, 2, 3)
        assert params["momentum"] in (0, 0.25, 0.5, 0.75, 1)
        assert 1e-4 <= params["rate"] <= 1e-1
        assert ("nesterov" in params["opt"]) == (params["opt"]["_name"] == "sgd")
        names.add(params["opt"]["_name"])
        made.receive_trial_result(number, params, params["rate"] + params["layers"])
    assert names == {"sgd", "adam"}


def test_every_configuration_is_asked_for_and_then_no_more(log: pytest.LogCaptureFixture) -> None:
    made = tuner()
    first = made.generate_multiple_parameters(list(range(20)))
    assert len({json.dumps(one) for one in first}) == len(first) == 15
    with pytest.raises(nni.NoMoreTrialError, match="every configuration"):
        made.generate_parameters(20)
    assert made.generate_multiple_parameters([21]) == []
    assert log.text.count("every configuration of the search space has been asked for") == 1


def test_parallel_calls_leave_a_whole_record(checkpoint: Path) -> None:
    made = cells(strategy="random")
    handed: dict[int, dict[str, Any]] = {}

    def worker(base: int) -> None:
        for number in range(base, base + 10):
            handed[number] = made.generate_parameters(number)
            made.receive_trial_result(number, handed[number], number / 100)
            made.trial_end(number + 1, number % 2 == 0)

    threads = [threading.Thread(target=worker, args=(100 * i,)) for i in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    entries = read_ledger(checkpoint).entries
    assert {e.parameter_id: e.params for e in entries} == handed
    assert all(e.status is Status.OK and e.value == (e.parameter_id or 0) / 100 for e in entries)
    assert sorted(e.number for e in entries if e.number is not None) == list(range(40))


# -- what it learns --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reported",
    ["0.9", None, float("nan"), float("inf"), {"accuracy": 0.9}, {"default": "0.9"}, True, [0.9], 10**400],
    ids=str,
)
def test_a_report_without_a_finite_number_counts_as_failed(reported: Any, log: pytest.LogCaptureFixture) -> None:
    made = tuner()
    made.receive_trial_result(0, made.generate_parameters(0), reported, trial_job_id="aBc")
    assert "trial aBc counts as failed: expected a finite number or a dict with one under 'default'" in log.text
    assert seen(made).status.tolist() == [Status.FAILED]


def test_the_first_result_stays_and_unknown_ids_are_ignored(log: pytest.LogCaptureFixture) -> None:
    made = tuner()
    params = made.generate_parameters(0)
    made.receive_trial_result(0, params, 0.5)
    made.receive_trial_result(0, params, 0.9)
    made.receive_trial_result(8, params, 0.7)
    made.trial_end(9, False)
    made.trial_end(None, True)
    assert "reported again for parameter id 0" in log.text
    assert "parameter id 8, which was not asked for" in log.text
    assert seen(made).values.tolist() == [[0.5]]


def test_an_echo_of_another_architecture_counts_as_failed(log: pytest.LogCaptureFixture) -> None:
    made = cells()
    one, other = made.generate_multiple_parameters([0, 1])
    text = CELLS.to_string(CELLS.from_params([other]))[0]
    made.receive_trial_result(0, one, {"default": 0.9, "architecture": text})
    made.receive_trial_result(1, other, {"default": 0.8, "architecture": other})
    assert "counts as failed: the trial says that it ran" in log.text
    assert seen(made).status.tolist() == [Status.FAILED, Status.OK]


@pytest.mark.parametrize("said", ["resnet", 3, ["a"], {"op": "z"}], ids=str)
def test_an_echo_that_is_no_architecture_is_not_taken_for_one(said: Any, log: pytest.LogCaptureFixture) -> None:
    made = tuner()
    made.receive_trial_result(0, made.generate_parameters(0), {"default": 0.9, "architecture": said})
    assert "none of the search space" in log.text
    assert seen(made).status.tolist() == [Status.OK]


def test_trials_without_result_fail_by_number_not_by_the_id_that_nni_names() -> None:
    """Two in flight; NNI names the wrong one as ended. The other reports afterwards, and keeps its result."""
    made = tuner()
    first = made.generate_multiple_parameters([0, 1])
    made.trial_end(0, False)
    assert seen(made).status.tolist() == [Status.FAILED, Status.RUNNING]
    made.receive_trial_result(0, first[0], 0.7)
    made.trial_end(1, True)
    assert seen(made).status.tolist()[:2] == [Status.OK, Status.FAILED]


def test_a_trial_that_ended_with_its_result_frees_nothing() -> None:
    made = tuner()
    made.receive_trial_result(0, made.generate_multiple_parameters([0, 1])[0], 0.7)
    made.trial_end(0, False)
    assert seen(made).status.tolist() == [Status.OK, Status.RUNNING]


class Answers(http.server.BaseHTTPRequestHandler):
    """A manager that knows what the test tells it."""

    told: dict[str, Any]
    puts: list[tuple[str, Any]]

    def do_GET(self) -> None:
        self._answer(self.told.get(self.path.removeprefix("/pre/api/v1/nni")))

    def do_PUT(self) -> None:
        self.puts.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        self._answer("")

    def _answer(self, what: Any) -> None:
        text = (what if isinstance(what, str) else json.dumps(what)).encode()
        self.send_response(404 if what is None else 200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Answers]]:
    handler = type("Handler", (Answers,), {"told": {}, "puts": []})
    server = http.server.ThreadingHTTPServer(("localhost", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NNI_TUNER_COMMAND_CHANNEL", f"ws://localhost:{server.server_port}/pre/tuner")
    monkeypatch.setenv("http_proxy", "http://localhost:1")  # must not be used
    yield handler
    server.shutdown()
    server.server_close()


def metric(number: int, job: str, value: Any) -> dict[str, Any]:
    data = json.dumps(json.dumps(value))
    return {"parameterId": str(number), "trialJobId": job, "timestamp": 1e3 * time.time() + 1, "data": data}


def test_stopped_trials_are_pruned_with_their_last_intermediate_result(manager: type[Answers]) -> None:
    made = tuner()
    made.generate_multiple_parameters([0, 1, 2, 3])
    old = {**metric(3, "old", 0.1), "timestamp": 0}  # of a session before, when ids meant other trials
    manager.told = {
        "/metric-data?type=PERIODICAL": [
            metric(1, "b", 0.4),
            metric(1, "b", {"default": 0.6}),
            metric(2, "c", 0.5),
            old,
        ],
        "/trial-jobs": [
            {"trialJobId": "b", "status": "EARLY_STOPPED"},
            {"trialJobId": "c", "status": "FAILED"},
            {"trialJobId": "old", "status": "USER_CANCELED"},
        ],
    }
    for number in (0, 3):  # the wrong ids, as at concurrency 4
        made.trial_end(number, False)
    history = made._columns.history(1.0)
    assert history.status.tolist() == [Status.RUNNING, Status.PRUNED, Status.FAILED, Status.RUNNING]
    assert history.values[1] == 0.6
    manager.told["/metric-data?type=PERIODICAL"] = [metric(0, "a", 0.4)]
    manager.told["/trial-jobs"] = [{"trialJobId": "a", "status": "SUCCEEDED"}]
    made.trial_end(1, False)
    assert made._ledger.entries[0].status is Status.RUNNING  # it succeeded: its result may be on its way
    assert seen(made).status[0] == Status.FAILED


def test_one_trial_ended_and_one_is_found(manager: type[Answers]) -> None:
    """What the manager could not tell when the trial ended, it tells at the next proposal; the other trial runs on."""
    made = tuner()
    made.generate_multiple_parameters([0, 1])
    made.trial_end(0, False)
    manager.told = {
        "/metric-data?type=PERIODICAL": [metric(1, "b", 0.4)],
        "/trial-jobs": [{"trialJobId": "b", "status": "USER_CANCELED"}],
    }
    assert seen(made).status.tolist() == [Status.RUNNING, Status.PRUNED]


@pytest.mark.parametrize("told", [{}, {"/metric-data?type=PERIODICAL": 3}, {"/metric-data?type=PERIODICAL": "{"}])
def test_a_manager_that_does_not_answer_is_logged(
    manager: type[Answers], told: dict[str, Any], log: pytest.LogCaptureFixture
) -> None:
    manager.told = told
    made = tuner()
    made.generate_parameters(0)
    made.trial_end(0, False)
    assert made._ledger.entries[0].status is Status.RUNNING
    made._on_exit()
    assert made._ledger.entries[0].status is Status.FAILED
    assert "NNI does not tell which trial ended: NNI's manager" in log.text


def test_exhaustion_lets_the_experiment_be_done(manager: type[Answers], log: pytest.LogCaptureFixture) -> None:
    manager.told = {"/experiment": {"id": "x", "params": {"maxTrialNumber": 99}}, "/trial-jobs": [{}] * 15}
    made = tuner()
    assert len(made.generate_multiple_parameters(list(range(15)))) == 15
    assert manager.puts == []
    manager.told["/trial-jobs"] = [{"trialJobId": str(i), "status": "RUNNING"} for i in range(15)]
    assert made.generate_multiple_parameters([15]) == []
    assert manager.puts == [
        ("/pre/api/v1/nni/experiment?update_type=MAX_TRIAL_NUM", {"id": "x", "params": {"maxTrialNumber": 15}})
    ]
    manager.told["/experiment"] = {}
    assert made.generate_multiple_parameters([16]) == []
    assert "described the experiment as" in log.text
    assert "stop it with nnictl stop" in log.text


# -- the record ------------------------------------------------------------------------------------------------------


def finished(made: NasTuner, values: list[float], first: int = 0) -> list[dict[str, Any]]:
    asked = []
    for number, value in enumerate(values, start=first):
        asked.append(made.generate_parameters(number))
        made.receive_trial_result(number, asked[-1], value, trial_job_id=f"job{number}")
        made.trial_end(number, True)
    return asked


def test_a_resumed_experiment_goes_on_where_it_was(checkpoint: Path, log: pytest.LogCaptureFixture) -> None:
    whole = cells(strategy="weaknas", seed=3)
    expected = finished(whole, [i / 50 for i in range(30)])
    checkpoint.unlink()

    first = cells(strategy="weaknas", seed=3)
    before = finished(first, [i / 50 for i in range(17)])
    again = NasTuner(strategy="weaknas", space="nasbench201", seed=3)
    again.load_checkpoint()
    again.update_search_space(CELL_SPACE)
    shuffled = [{"parameter": p, "value": 0.99, "trialJobId": "x"} for p in before[::-1]]  # NNI's record is wrong
    again.import_data(shuffled)
    after = finished(again, [i / 50 for i in range(17, 30)], first=1)  # ids start anew
    assert before + after == expected
    assert "resumed with 17 results" in log.text
    assert "NNI's record of 17 results told 0 new ones" in log.text
    entries = read_ledger(checkpoint).entries
    assert [e.params for e in entries] == expected
    assert [e.session for e in entries] == [1] * 17 + [2] * 13


def test_a_drawn_seed_is_kept_when_resumed(checkpoint: Path) -> None:
    first, again = cells(seed=None), cells(seed=None)
    assert first._seed == again._seed
    assert [one["seed"] for one in read_ledger(checkpoint).starts] == [first._seed] * 2


def test_a_trial_run_again_after_a_resume_completes_its_entry(checkpoint: Path) -> None:
    running = cells().generate_multiple_parameters([0, 1])
    again = cells()
    again.load_checkpoint()
    again.import_data([])
    again.import_data([{"parameter": running[1], "value": 0.7}])
    history = seen(again)
    assert history.status.tolist() == [Status.RUNNING, Status.OK]
    assert read_ledger(checkpoint).entries[1].note == "reported after a resume"


def test_nnis_record_is_used_only_where_ours_is_missing_and_echoes_mend_it(log: pytest.LogCaptureFixture) -> None:
    rows = CELLS.sample_distinct(3, np.random.default_rng(0))
    params, texts = CELLS.to_params(rows), CELLS.to_string(rows)
    made = cells()
    made.load_checkpoint()
    made.import_data(
        [
            {"parameter": params[1], "value": {"default": 0.1, "architecture": texts[0]}, "trialJobId": "a"},
            {"parameter": params[2], "value": 0.2, "trialJobId": "b"},
        ]
    )
    assert "pairs configurations with wrong results" in log.text
    history = seen(made)
    assert history.genotypes.tolist() == rows[[0, 2]].tolist()
    assert history.values[:, 0].tolist() == [0.1, 0.2]


def test_a_result_that_only_nni_has_is_taken_where_the_trial_says_what_it_ran(checkpoint: Path) -> None:
    """The dispatcher died between the trial's report and its record."""
    params = cells().generate_multiple_parameters([0, 1])
    text = CELLS.to_string(CELLS.from_params([params[0]]))[0]
    again = cells()
    again.load_checkpoint()
    again.import_data(
        [
            {"parameter": params[1], "value": {"default": 0.4, "architecture": text}, "trialJobId": "a"},
            {"parameter": params[0], "value": 0.9, "trialJobId": "b"},
        ]
    )
    history = seen(again)
    assert history.status.tolist() == [Status.OK, Status.RUNNING]
    assert history.values[0] == 0.4


def test_imported_data_are_learned_from(log: pytest.LogCaptureFixture) -> None:
    made = tuner()
    good = {"op": "a", "width": 2}
    made.import_data(
        [
            {"parameter": good, "value": 0.5},
            {"parameter": good, "value": 0.6},  # known already
            {"parameter": {"op": "z", "width": 2}, "value": 0.5},
            {"parameter": "text", "value": 0.5},
            {"parameter": {"op": "b", "width": 2}, "value": "much"},
            {"value": 0.5},
            7,
        ]
    )
    assert seen(made).values.tolist() == [[0.5]]
    assert log.text.count("its parameters are not of the search space") == 2
    assert log.text.count("its value is not a finite number") == 1
    assert log.text.count("must have 'parameter' and 'value'") == 2
    other = {"op": "c", "width": 5}
    made.import_data([{"parameter": other, "value": 0.7, "trialJobId": "x"}])  # exported from another experiment
    others = made.generate_multiple_parameters(list(range(20)))
    assert len(others) == 12  # 15 without the two imported ones and that of seen()
    assert other not in others
    assert good not in others
    early = NasTuner(strategy="recorder")
    early.import_data([{"parameter": good, "value": 0.5}])
    assert "there is no search space" in log.text


def test_a_record_cut_short_or_damaged_is_read_as_far_as_it_goes(
    checkpoint: Path, log: pytest.LogCaptureFixture
) -> None:
    finished(cells(), [0.1, 0.2, 0.3])
    lines = checkpoint.read_bytes().splitlines(keepends=True)
    damaged = [
        b"\xff not json\n", b"[1]\n", b'{"event": "ask"}\n', b'{"event": "dance"}\n',
        b'{"event": "ask", "row": 0, "params": {}, "source": "", "time": 0}\n',
        b'{"event": "end", "row": 99, "status": "ok", "value": 1}\n',
        b'{"event": "end", "row": 0, "status": "ok", "value": NaN}\n',
        b'{"event": "end", "row": 0, "status": "sleepy"}\n',
        b'{"event": "start", "format": 9}\n',
    ]  # fmt: skip
    checkpoint.write_bytes(b"".join([*lines[:3], *damaged, *lines[3:], lines[-1][:25]]))
    again = cells()
    assert "was cut short" in log.text
    assert log.text.count("is damaged and left out") == len(damaged)
    assert seen(again).values[:, 0].tolist() == [0.1, 0.2, 0.3]
    again_read = read_ledger(checkpoint)
    assert len(again_read.entries) == 4  # what was written after the cut is whole
    assert len(again_read.starts) == 2


def test_a_disk_that_cannot_be_written_does_not_end_the_experiment(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    made = cells()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    finished(made, [0.1, 0.2])
    assert log.text.count("the history cannot be written") == 1
    assert seen(made).values[:, 0].tolist() == [0.1, 0.2]


def test_an_edited_search_space_keeps_what_fits_it(log: pytest.LogCaptureFixture) -> None:
    made = tuner()
    finished(made, [float(i) for i in range(15)])
    narrower = {**SMALL, "op": {"_type": "choice", "_value": ["a", "b", "z"]}}
    made.update_search_space(narrower)
    assert len(seen(made)) == 10
    made.update_search_space({"op": {"_type": "choice", "_value": ["y"]}, "width": SMALL["width"]})
    made.import_data([{"parameter": {"op": "y", "width": 1}, "value": 0.5}])  # all codes 0, as of what does not fit
    assert 0.5 in seen(made).values
    made.update_search_space(narrower)
    made.update_search_space({"op": 3})
    assert "the search space cannot be used" in log.text
    assert "the one before stays in force" in log.text
    assert made.generate_parameters(100)["op"] == "z"


# -- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fail", ["raise", "invalid"])
def test_a_strategy_that_fails_is_logged_and_random_takes_its_place(fail: str, log: pytest.LogCaptureFixture) -> None:
    made = tuner(options={"fail": fail})
    asked = finished(made, [0.1, 0.2])
    rest = made.generate_multiple_parameters(list(range(2, 30)))
    assert len({json.dumps(one) for one in asked + rest}) == 15
    assert made.generate_multiple_parameters([99]) == []
    assert "recorder failed on proposal 0; random configurations take its place" in log.text
    assert "Traceback" in log.text
    assert {entry.source for entry in made._ledger.entries} == {"random"}


def test_any_other_failure_is_logged_and_answered(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    made = tuner()

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    for name in ("ask", "end", "add"):
        monkeypatch.setattr(Ledger, name, broken)
    params = made.generate_parameters(0)
    assert params["op"] in "abc"
    assert "their results are not used" in log.text
    monkeypatch.undo()
    made.generate_parameters(1)
    monkeypatch.setattr(Ledger, "end", broken)
    made.receive_trial_result(1, params, 0.5)
    assert "receive_trial_result failed; the experiment goes on" in log.text
    made.import_data(5)  # type: ignore[arg-type]
    assert "import_data failed" in log.text
    made.save_checkpoint()


MALFORMED = [
    ({}, "must be a JSON object of parameters"),
    ([1], "must be a JSON object of parameters"),
    ({"a": 3}, "must have {'_type': ..., '_value': [...]} for 'a'"),
    ({"a": {"_type": "choice"}}, "must have {'_type': ..., '_value': [...]} for 'a'"),
    ({"a": {"_type": "choice", "_value": []}}, "must have a list as '_value' of 'a'"),
    ({"a": {"_type": "choice", "_value": "xyz"}}, "must have a list as '_value' of 'a'"),
    ({"a": {"_type": "choice", "_value": [1, 1]}}, "has a choice twice"),
    ({"a": {"_type": "choice", "_value": [{"_name": "x"}, 3]}}, "all options of the nested choice 'a' need a '_name'"),
    ({"a": {"_type": "choice", "_value": [{"_name": "x", "b": 1}]}}, "option 'a/x' of the search space must have"),
    ({"a": {"_type": "normal", "_value": [0, 1]}}, "use uniform over two or three sigma"),
    ({"a": {"_type": "qlognormal", "_value": [0, 1, 1]}}, "not supported; use loguniform"),
    ({"a": {"_type": "dice", "_value": [6]}}, "expected choice, randint, uniform, quniform, loguniform"),
    ({"a": {"_type": "uniform", "_value": [1]}}, "of type uniform expects [low, high]"),
    ({"a": {"_type": "uniform", "_value": [True, 2]}}, "of type uniform expects [low, high]"),
    ({"a": {"_type": "uniform", "_value": [2, 1]}}, "needs finite low <= high"),
    ({"a": {"_type": "loguniform", "_value": [0, 1]}}, "needs low > 0"),
    ({"a": {"_type": "randint", "_value": [0.5, 3]}}, "of type randint expects"),
    ({"a": {"_type": "randint", "_value": [3, 3]}}, "of type randint expects"),
    ({"a": {"_type": "quniform", "_value": [0, 1]}}, "with q > 0"),
    ({"a": {"_type": "quniform", "_value": [0.1, 0.2, 1]}}, "no multiple of q"),
    ({"a": {"_type": "quniform", "_value": [0, 1, 0]}}, "no multiple of q"),
]


class Dispatcher:
    """As much of NNI's as a tuner meets."""

    def __init__(self) -> None:
        self.reported: list[str] = []

    def send_trial_callback(self, number: int, params: Any) -> None: ...

    def report_error(self, error: str) -> None:
        self.reported.append(error)


@pytest.mark.parametrize(("found", "message"), MALFORMED, ids=[str(i) for i in range(len(MALFORMED))])
def test_a_malformed_search_space_ends_the_experiment_with_the_reason(
    found: Any, message: str, log: pytest.LogCaptureFixture
) -> None:
    made, dispatcher = tuner(found), Dispatcher()
    assert made.generate_multiple_parameters([0], st_callback=dispatcher.send_trial_callback) == []
    assert message in dispatcher.reported[0]
    assert message in log.text
    with pytest.raises(nni.NoMoreTrialError):
        made.generate_parameters(1)


def renamed(space: dict[str, Any]) -> dict[str, Any]:
    return {**{k: v for k, v in space.items() if k != "edge_0_1"}, "edge_1": space["edge_0_1"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed, "the search space lacks 'edge_0_1'"),
        (lambda space: space | {"depth": {"_type": "randint", "_value": [1, 3]}}, "has unknown 'depth'"),
        (lambda space: space | {"edge_0_1": {"_type": "choice", "_value": ["none", "conv"]}}, "for 'edge_0_1'"),
        (lambda space: space | {"edge_0_1": {"_type": "randint", "_value": [0, 5]}}, "for 'edge_0_1'"),
        (lambda space: [], "must be a JSON object"),
    ],
)
def test_a_search_space_that_is_not_that_of_the_named_space_is_refused(
    change: Callable[[Any], Any], message: str, log: pytest.LogCaptureFixture
) -> None:
    made, dispatcher = tuner(change(CELL_SPACE), space="nasbench201"), Dispatcher()
    assert made.generate_multiple_parameters([0, 1], st_callback=dispatcher.send_trial_callback) == []
    assert message in dispatcher.reported[0]
    if "JSON" not in message:
        assert "nasplug nni search-space nasbench201" in log.text


def test_choices_and_parameters_come_in_any_order() -> None:
    turned = {
        key: {"_type": "choice", "_value": spec["_value"][::-1]} for key, spec in reversed(list(CELL_SPACE.items()))
    }
    made = tuner(turned, strategy="random", space="nasbench201")
    assert made.generate_parameters(0) == cells(strategy="random").generate_parameters(0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategy": "weakna"}, "unknown strategy 'weakna'; did you mean weaknas"),
        ({"strategy": "weaknas:predictor=x"}, "unknown value for option 'predictor'"),
        ({"strategy": 3}, "must be registered names"),
        ({"space": "nasbench2"}, "unknown space 'nasbench2'; did you mean nasbench201"),
        ({"space": ["a"]}, "must be registered names"),
        ({"optimize_mode": "max"}, "optimize_mode must be maximize or minimize, got 'max'"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"seed": True}, "seed must be an integer of at least 0"),
        ({"seed": "0"}, "seed must be an integer of at least 0"),
        ({"options": 3}, "options must be an object"),
        ({"options": {"predictr": "gp"}, "strategy": "weaknas"}, "did you mean predictor"),
        ({"options": {"predictor": "gp"}, "strategy": "weaknas:predictor=mlp"}, "'predictor' of the strategy is given"),
        ({"stratgy": "weaknas"}, "unknown entry of classArgs 'stratgy'; did you mean strategy"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        NasTuner(**arguments)


_CHILD = """
import time, nni
start = time.process_time()
from nasplug.plugins.nni import NasTuner
NasTuner(strategy="weaknas", space="nasbench201")
import sys
print(time.process_time() - start, [m for m in ("torch", "sklearn", "optuna") if m in sys.modules])
"""


def test_construction_is_quick_and_loads_nothing_heavy() -> None:
    """NNI gives up a tuner that is not there after 10 s, NNI's own import included."""
    done = subprocess.run([sys.executable, "-c", _CHILD], capture_output=True, text=True, check=True)
    seconds, _, loaded = done.stdout.strip().partition(" ")
    assert float(seconds) < 2
    assert loaded == "[]"


# -- a budget --------------------------------------------------------------------------------------------------------


@pytest.fixture
def latency_model(tmp_path: Path) -> str:
    """One millisecond an operation other than none, and one for the rest."""
    ms = 1.0 + (CELLS.all() != 0).sum(axis=1)
    path = tmp_path / "latency.npz"
    Lookup(space=CELLS).fit(CELLS.all(), ms).save(path)
    return str(path)


@pytest.mark.parametrize("strategy", ["random", "weaknas", "regularized-evolution", "local-search"])
def test_nothing_over_the_budget_is_tried(strategy: str, latency_model: str) -> None:
    made = cells(strategy=strategy, cost_model=latency_model, max_latency=3.5)
    for number in range(20):
        (params,) = made.generate_multiple_parameters([number])
        genotype = CELLS.from_params([params])
        assert (genotype != 0).sum() <= 2
        made.receive_trial_result(number, params, float(genotype.sum()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_latency": 3.0}, "a budget takes three entries"),
        ({"cost_model": "x.npz"}, "a budget takes three entries"),
        ({"cost_model": "x.npz", "max_latency": "3"}, "a budget takes three entries"),
        ({"cost_model": "x.npz", "max_latency": 3.0, "space": None}, "a budget takes three entries"),
        ({"cost_model": "none.npz", "max_latency": 3.0}, "cannot read the cost model"),
    ],
)
def test_budgets_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        NasTuner(**{"space": "nasbench201", **arguments})


@pytest.mark.parametrize("margin", [1.0, "1", True])
def test_a_margin_is_kept_or_refused(margin: Any, tmp_path: Path) -> None:
    from nasplug.cost_models.few_shot import FewShot

    rows = CELLS.sample_distinct(30, np.random.default_rng(0))
    noise = np.random.default_rng(1).normal(0, 0.3, 30)
    model = FewShot(space=CELLS).fit(rows, 5.0 + (rows == 3).sum(axis=1) + noise)
    model.save(tmp_path / "m.npz")
    budget = {"space": "nasbench201", "cost_model": str(tmp_path / "m.npz"), "max_latency": 7.0}
    if not isinstance(margin, float):
        with pytest.raises(InputError, match="margin must be a number of standard deviations"):
            NasTuner(**budget, margin=margin)
        return
    loose, kept = NasTuner(**budget)._named, NasTuner(**budget, margin=margin)._named
    assert loose is not None
    assert kept is not None
    assert kept.size < loose.size


def test_a_budget_that_nothing_meets_names_the_cheapest(latency_model: str) -> None:
    with pytest.raises(InputError, match="the cheapest found"):
        NasTuner(space="nasbench201", cost_model=latency_model, max_latency=0.5)
