"""nasplug strategies as an NNI tuner."""

from __future__ import annotations

import functools
import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import nni
from nni.tuner import Tuner

from nasplug import __version__
from nasplug.cost_models.base import load_cost_model
from nasplug.cost_models.constraint import affordable
from nasplug.errors import InputError, SpaceExhaustedError, UnknownNameError
from nasplug.plugins.configured import checked_seed, drawn_seed, fitting, strategy_over
from nasplug.plugins.nni.columns import Columns
from nasplug.plugins.nni.ledger import FILE, Entry, Ledger
from nasplug.plugins.nni.manager import Manager, ManagerError
from nasplug.plugins.nni.metrics import finite
from nasplug.plugins.nni.spaces import check_search_space, experiment_space
from nasplug.registry import Spec, configure
from nasplug.spaces import Genotypes, Space
from nasplug.strategies import Status, Strategy, trial_rng

__all__ = ["NasTuner"]

_log = logging.getLogger("nni.nasplug")

_STOPPED = ("EARLY_STOPPED", "USER_CANCELED")
_FAILED = ("FAILED", "SYS_CANCELED")


def _within_budget(space: Space | None, cost_model: object, max_latency: object, margin: object) -> Space:
    """Return the part of the space that the model finds affordable; raises InputError where one of the three lacks."""
    number = isinstance(max_latency, int | float) and not isinstance(max_latency, bool)
    if space is None or not isinstance(cost_model, str) or not number:
        raise InputError(
            "a budget takes three entries of classArgs: space, cost_model (a file) and max_latency (ms), got "
            f"{None if space is None else space.name!r}, {cost_model!r} and {max_latency!r}"
        )
    if not isinstance(margin, int | float) or isinstance(margin, bool):
        raise InputError(f"margin must be a number of standard deviations, got {margin!r}")
    model = load_cost_model(Path(cost_model), space)
    return affordable(space, model, float(max_latency), margin=float(margin))  # type: ignore[arg-type]


def _never_raises(method: Callable[..., None]) -> Callable[..., None]:
    """Lock the tuner, and log what goes wrong: NNI answers an exception by leaving the experiment idle for ever."""

    @functools.wraps(method)
    def guarded(self: NasTuner, *args: Any, **kwargs: Any) -> None:
        with self._lock:
            try:
                method(self, *args, **kwargs)
            except Exception:
                _log.exception("%s failed; the experiment goes on without it", method.__name__)

    return guarded


class NasTuner(Tuner):  # type: ignore[misc]  # NNI has no types
    """An NNI tuner that lets a nasplug strategy choose, and never asks for a configuration twice.

    In an experiment's configuration (``nasplug nni register`` allows ``name: WeakNAS`` instead of the class):

        tuner:
          className: nasplug.plugins.nni.NasTuner
          codeDirectory: .
          classArgs: {strategy: weaknas, space: nasbench201, optimize_mode: maximize, seed: 0}

    Reproducible: with ``trialConcurrency: 1`` the sequence is ``strategy.propose(history, 1, trial_rng(seed, n))`` for
    n = 0, 1, ..., the same as ``nasplug search`` and an Optuna study make. A request for several trials at once is one
    proposal of several.

    The record is our own, in the experiment's checkpoint folder (:mod:`.ledger`), and is continued by ``nnictl
    resume``. NNI's record is used only where there is none: with several trials at a time it pairs configurations with
    the wrong results. Results count as reported for the parameter id; ids that NNI names at the end of a trial are
    hints, and only the number of ended trials is believed.

    A result is a finite number, or a dict with one under ``default``. With ``architecture`` in it (a string of the
    space, or the parameters) it must be the one that was asked for. Anything else is logged and counts as failed. So
    does a trial that ends without a result; one that was stopped counts as pruned, its last intermediate result as a
    hint.

    After construction no method raises. A strategy that fails is logged, and a random unseen configuration taken. A
    search space that cannot be used ends the experiment with status ERROR and the reason in the logs; edited in the
    web page, the former stays in force. When every configuration has been asked for, the experiment's
    ``maxTrialNumber`` is lowered to the trials there are, so that it ends as DONE; where the manager cannot be
    reached, ``nni.NoMoreTrialError`` is all that is left.

    Trials added by hand in the web page are not seen: NNI 3.0 does not deliver their results to any tuner.

    Args:
        strategy: a registered name, with options if wanted, such as ``"weaknas:predictor=ridge"``.
        space: a registered space; the experiment's search space must then be what ``nasplug nni search-space``
            prints. None: whatever the experiment's search space describes.
        optimize_mode: ``maximize`` or ``minimize`` what trials report.
        seed: not negative; None draws one, which a resumed experiment keeps.
        options: options of the strategy.
        cost_model: file of a fitted cost model (``nasplug cost-model fit``); needs ``space`` and ``max_latency``.
        max_latency: milliseconds; nothing that the model predicts to take longer is tried.
        margin: standard deviations of a prediction to keep from that; a negative one takes chances.

    Raises:
        InputError: anything that is wrong with the arguments; NNI then ends the experiment with status ERROR.
    """

    def __init__(
        self,
        strategy: str = "weaknas",
        space: str | None = None,
        optimize_mode: Literal["maximize", "minimize"] = "maximize",
        seed: int | None = None,
        options: Mapping[str, Any] | None = None,
        cost_model: str | None = None,
        max_latency: float | None = None,
        margin: float = 0.0,
        **unknown: Any,
    ):
        super().__init__()
        if unknown:
            known = ("strategy", "space", "optimize_mode", "seed", "options", "cost_model", "max_latency", "margin")
            raise UnknownNameError("entry of classArgs", next(iter(unknown)), known)
        if optimize_mode not in ("maximize", "minimize"):
            raise InputError(f"optimize_mode must be maximize or minimize, got {optimize_mode!r}")
        if not isinstance(options, Mapping | None):
            raise InputError(f"options must be an object of the strategy's options, got {options!r}")
        if not isinstance(strategy, str) or not isinstance(space, str | None):
            raise InputError(f"strategy and space must be registered names, got {strategy!r} and {space!r}")
        spec = Spec.parse(strategy)
        if doubled := sorted(spec.options.keys() & (options or {}).keys()):
            raise InputError(f"option {doubled[0]!r} of the strategy is given twice")
        self._spec = Spec(spec.name, spec.positional, {**spec.options, **(options or {})})
        self._sign = 1.0 if optimize_mode == "maximize" else -1.0
        seed = checked_seed(seed)
        self._space_name = space
        self._named: Space | None = None if space is None else configure("space", space)
        if cost_model is not None or max_latency is not None or margin != 0:
            self._named = _within_budget(self._named, cost_model, max_latency, margin)
        # Built once now, so that a wrong name or option is an error here and not in the middle of an experiment.
        strategy_over(self._spec, self._named)

        self._lock = threading.RLock()  # NNI calls from two threads
        self._strategy: Strategy | None = None
        self._columns: Columns | None = None
        self._problem: str | None = None
        self._resumed = False
        self._told_exhausted = False
        self._asked: dict[int, Entry] = {}  # of this session, by parameter id
        self._ended: dict[int, bool] = {}  # parameter ids NNI said had ended -> well
        folder = self.get_checkpoint_path()
        self._ledger = Ledger(None if folder is None else Path(folder) / FILE)
        if seed is None and self._ledger.starts:
            seed = self._ledger.starts[0].get("seed")
        self._seed = drawn_seed() if seed is None else seed
        self._ledger.start(
            {
                "nasplug": __version__,
                "strategy": strategy,
                "options": dict(options or {}),
                "space": space,
                "optimize_mode": optimize_mode,
                "seed": self._seed,
            }
        )

    # -- what NNI calls ----------------------------------------------------------------------------------------------

    @_never_raises
    def update_search_space(self, search_space: Any) -> None:
        try:
            if self._named is None:
                space = experiment_space(search_space)
            else:
                check_search_space(self._named, self._space_name or "", search_space)
                space = self._named
            strategy = strategy_over(self._spec, space)
        except Exception as error:
            text = f"the search space cannot be used: {error}"
            if self._strategy is not None:
                _log.error("%s; the one before stays in force", text)
                return
            _log.error("%s", text)
            self._problem = text
            return
        self._problem = None
        if self._strategy is None or self._strategy.space != space:
            self._strategy, self._columns = strategy, Columns(space, self._ledger)
            _log.info("%s over %r, seed %d", self._spec.name, space, self._seed)

    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> dict[str, Any]:
        found = self.generate_multiple_parameters([parameter_id], **kwargs)
        if not found:
            raise nni.NoMoreTrialError("every configuration of the search space has been asked for")
        return found[0]

    def generate_multiple_parameters(self, parameter_id_list: list[int], **kwargs: Any) -> list[dict[str, Any]]:
        with self._lock:
            if self._strategy is None or self._columns is None:
                self._end_with_error(kwargs)
                return []
            space, n = self._strategy.space, len(parameter_id_list)
            try:
                self._settle()
                params, source = self._propose(self._strategy, self._columns, n)
                entries = self._ledger.ask(params, parameter_id_list[: len(params)], source)
                self._asked.update(zip(parameter_id_list, entries, strict=False))
            except Exception:
                _log.exception("the proposal failed; random configurations take its place, their results are not used")
                return space.to_params(space.sample(n, trial_rng(self._seed, self._ledger.proposals)))
            if not params:
                self._end_as_done()
            return params

    @_never_raises
    def receive_trial_result(self, parameter_id: int, parameters: Any, value: Any, **kwargs: Any) -> None:
        job = kwargs.get("trial_job_id")
        entry = self._asked.get(parameter_id)
        if entry is None:
            _log.warning("trial %s reported for parameter id %r, which was not asked for; ignored", job, parameter_id)
        elif entry.status is Status.OK:
            _log.warning("trial %s reported again for parameter id %r; the first result stays", job, parameter_id)
        else:
            self._finish(entry, value, job)

    @_never_raises
    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        if parameter_id in self._asked:
            self._ended[parameter_id] = success
            if not success:
                self._settle(guess=False)  # a result may still be on its way, in NNI's other thread

    @_never_raises
    def import_data(self, data: list[dict[str, Any]]) -> None:
        record, self._resumed = self._resumed, False
        if self._columns is None:
            _log.error("nothing is imported: there is no search space")
            return
        ours = record and bool(self._ledger.entries)
        taken = 0
        for item in data:
            if not isinstance(item, Mapping) or "parameter" not in item or "value" not in item:
                _log.warning("imported data must have 'parameter' and 'value', got %s; left out", str(item)[:200])
            elif not (ours and item.get("trialJobId") and self._echo(item["value"]) is None):
                taken += self._import(self._columns, item, record)
        if ours:
            _log.info("NNI's record of %d results told %d new ones; the tuner has its own", len(data), taken)
        elif record and taken:
            _log.warning(
                "%s is missing, so %d results come from NNI's record; with trialConcurrency above 1 it pairs "
                "configurations with wrong results, except where trials report their architecture",
                FILE,
                taken,
            )

    @_never_raises
    def load_checkpoint(self) -> None:
        """NNI resumes: the next ``import_data`` will be its own record."""
        self._resumed = True
        done = sum(entry.status is Status.OK for entry in self._ledger.entries)
        _log.info("resumed with %d results and %d configurations in all", done, len(self._ledger.entries))

    @_never_raises
    def save_checkpoint(self) -> None:
        """Nothing to do: every event is on disk before the method that caused it returns."""

    def _on_exit(self) -> None:
        self._settle()

    # -- proposing ---------------------------------------------------------------------------------------------------

    def _propose(self, strategy: Strategy, columns: Columns, n: int) -> tuple[list[dict[str, Any]], str]:
        """Return the parameters of up to ``n`` unseen configurations, none when all have been asked for, and whose."""
        space, number = strategy.space, self._ledger.proposals
        history = columns.history(self._sign)
        source = "strategy"
        try:
            genotypes = space.check(strategy.propose(history, n, trial_rng(self._seed, number)))[:n]
        except SpaceExhaustedError:
            return [], source
        except Exception:
            _log.exception("%s failed on proposal %d; random configurations take its place", self._spec.name, number)
            source = "random"
            try:
                genotypes = space.sample_distinct(n, trial_rng(self._seed, number), history.keys)
            except SpaceExhaustedError:
                return [], source
        return space.to_params(genotypes), source

    @_never_raises
    def _end_as_done(self) -> None:
        if not self._told_exhausted:
            _log.info("every configuration of the search space has been asked for")
        self._told_exhausted = True
        try:
            manager = Manager.of_dispatcher()
            if manager is not None:
                manager.end_after_submitted()
        except ManagerError as error:
            _log.warning("the experiment will stay in status TUNER_NO_MORE_TRIAL; stop it with nnictl stop (%s)", error)

    def _end_with_error(self, kwargs: Mapping[str, Any]) -> None:
        """Tell the manager that there is no usable search space: without this it would wait for trials for ever."""
        problem = self._problem or "NNI asked for trials before it gave a search space"
        _log.error("no trials: %s", problem)
        dispatcher = getattr(kwargs.get("st_callback"), "__self__", None)
        report = getattr(dispatcher, "report_error", None)
        if report is not None:
            report(problem)

    # -- learning ----------------------------------------------------------------------------------------------------

    def _finish(self, entry: Entry, reported: Any, job: str | None) -> None:
        value = finite(reported)
        note = ""
        if value is None:
            note = f"expected a finite number or a dict with one under 'default', the trial reported {str(reported)!r}"
        else:
            echo = self._echo(reported)
            if echo is not None and not self._is(entry.params, echo):
                note = f"the trial says that it ran {echo}, it was given {json.dumps(entry.params)}"
                value = None
        if note:
            _log.error("trial %s counts as failed: %s", job, note[:1000])
        self._ledger.end(entry, Status.OK if value is not None else Status.FAILED, value, job=job, note=note[:1000])

    def _echo(self, reported: Any) -> dict[str, Any] | None:
        """Return the parameters of the architecture that a trial says it ran; None where it says none we can read."""
        said = reported.get("architecture") if isinstance(reported, Mapping) else None
        if said is None or self._strategy is None:
            return None
        space = self._strategy.space
        try:
            codes = space.from_string([said]) if isinstance(said, str) else _from_any(space)([said])
            return space.to_params(codes)[0]
        except InputError as error:
            _log.warning("a trial reports an architecture that is none of the search space: %s", error)
            return None

    def _is(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        assert self._strategy is not None
        space = self._strategy.space
        codes, fits = fitting([one, other], space.n_sites, space.from_params)
        return bool(fits.all() and (codes[0] == codes[1]).all())

    def _import(self, columns: Columns, item: Mapping[str, Any], record: bool) -> bool:
        """Take one imported result; returns whether it told anything."""
        space = columns.space
        value = finite(item["value"])
        params = self._echo(item["value"]) or item["parameter"]
        codes, fits = fitting([params], space.n_sites, _from_any(space))
        if value is None or not fits[0]:
            why = "its value is not a finite number" if fits[0] else "its parameters are not of the search space"
            _log.warning("an imported result is left out, %s: %s", why, str(dict(item))[:300])
            return False
        known = columns.find(codes[0])
        if any(entry.status is Status.OK for entry in known):
            return False
        if known:  # a trial that NNI ran again after a resume
            self._ledger.end(known[0], Status.OK, value, job=item.get("trialJobId"), note="reported after a resume")
        else:
            self._ledger.add(space.to_params(codes)[0], value, "NNI's record" if record else "imported")
        return True

    # -- trials that ended without a result --------------------------------------------------------------------------

    @_never_raises
    def _settle(self, *, guess: bool = True) -> None:
        """Find the trials that ended without a result.

        As many as are pending beyond those in flight. Which ones: those whose intermediate results lead to a job that
        has ended, and where there are none, by ``guess``, those that NNI named, failed ones first, then the oldest. A
        result that still comes is taken all the same.
        """
        pending = {number: entry for number, entry in self._asked.items() if entry.status is Status.RUNNING}
        surplus = len(pending) - (len(self._asked) - len(self._ended))
        if surplus <= 0:
            return
        for number, (status, hint, job) in self._traces(pending).items():
            entry = pending.pop(number)
            if status in _STOPPED:
                self._ledger.end(entry, Status.PRUNED, hint, job=job, note=f"{status}, last intermediate result")
            elif status in _FAILED or (guess and status == "SUCCEEDED"):
                self._ledger.end(entry, Status.FAILED, job=job, note=f"{status} without a final result")
            else:
                continue  # still running
            surplus -= 1
        if not guess:
            return
        order = {False: 0, True: 1, None: 2}
        for number in sorted(pending, key=lambda one: order[self._ended.get(one)])[: max(0, surplus)]:
            _log.warning("the trial of parameter id %s ended without a final result", number)
            self._ledger.end(pending[number], Status.FAILED, note="ended without a final result")

    def _traces(self, pending: Mapping[int, Entry]) -> dict[int, tuple[str, float | None, str]]:
        """Return, by parameter id, a job's status, last intermediate result and id, where NNI knows of any."""
        manager = Manager.of_dispatcher()
        found: dict[int, tuple[str, float | None, str]] = {}
        try:
            jobs = {} if manager is None else manager.jobs()
            for metric in [] if manager is None else manager.intermediate():
                number, job = int(metric["parameterId"]), str(metric["trialJobId"])
                # Ids start anew when NNI resumes, so an older metric may bear the same.
                if number in pending and metric["timestamp"] >= 1e3 * pending[number].asked_s:
                    found[number] = (jobs.get(job, ""), finite(_loaded(metric["data"])), job)
        except (ManagerError, KeyError, TypeError, ValueError) as error:
            _log.warning("NNI does not tell which trial ended: %s", error)
        return found


def _loaded(data: Any) -> Any:
    """Return what a metric holds: NNI stores JSON inside a JSON string."""
    while isinstance(data, str):
        data = json.loads(data)
    return data


def _from_any(space: Space) -> Callable[[Sequence[Any]], Genotypes]:
    """Return ``space.from_params`` for what need not even be parameters."""

    def codes(params: Sequence[Any]) -> Genotypes:
        if not all(isinstance(one, Mapping) for one in params):
            raise InputError(f"parameters must be an object, got {str(params)[:200]}")
        return space.from_params(params)

    return codes
