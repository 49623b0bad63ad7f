"""A method's run on disk: what its stages selected, and a checkpoint to go on from."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nasplug.errors import DataError, InputError, TrainingError
from nasplug.files import write_whole
from nasplug.packages import require
from nasplug.spaces import Space
from nasplug.strategies.supernet.method import Method, Selection

__all__ = ["Run", "require_torch"]

_log = logging.getLogger(__name__)


def require_torch() -> None:
    """Raise MissingDependencyError where what trains supernets is not installed."""
    require("torch", "filelock", purpose="training a supernet", extra="torch")


class Run:
    """A run that lives in a folder: every stage is trained once, by whichever process needs it first.

    The folder holds ``run.json`` (the facts), ``stage-0000.json`` and so on (what each stage selected) and
    ``checkpoint.pt`` (the state after the latest); where a stage has left a method that no longer works, also
    ``sound.pt``, the state before it. A process that is killed loses the stage it was in; the next one
    goes on from the checkpoint, to the same result. Processes that share a folder wait for each other.

    Args:
        folder: where; made where it is missing.
        facts: all that the run's result depends on, JSON-ready.
        space: of the architectures.
        build: makes the method, untrained; called once, when there is something to train.
        stages: how many stages the method has.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], space: Space, build: Callable[[], Method], stages: int):
        self.folder, self.stages = folder, stages
        self._facts, self._space, self._build = dict(facts), space, build
        self._known: dict[int, Selection] = {}
        self._method: Method | None = None

    @property
    def checkpoint(self) -> Path:
        """The file of the state after the latest stage."""
        return self.folder / "checkpoint.pt"

    def selection(self, stage: int) -> Selection | None:
        """Return what 0-based ``stage`` selects, None after the last; trains all that is missing up to it.

        Raises:
            TrainingError: a loss that is no number; the message names the stage and the last good checkpoint.
            DataError: the folder cannot be written, or holds another run or damaged files.
            MissingDependencyError: without torch.
        """
        if stage >= self.stages:
            return None
        if stage not in self._known:
            self._known[stage] = self._read(stage) or self._trained(stage)
        return self._known[stage]

    def method(self) -> Method:
        """Return the method as it is after the last stage, training what is missing; raises as :meth:`selection`."""
        with self._claimed():
            method = self._restored(self.stages)  # which is less where all selections are known and the state is lost
            self._advance(method, self.stages)
            return method

    # -- training ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """Hold the folder, which other processes and threads wait for."""
        require_torch()
        from filelock import FileLock

        self._claim()
        with FileLock(self.folder / "run.lock"):
            yield

    def _trained(self, stage: int) -> Selection:
        """Return what a stage selects, trained here unless another process has just done it."""
        with self._claimed():
            done = self._read(stage)
            if done is not None:
                return done
            return self._advance(self._restored(stage), stage + 1)[-1]

    def _advance(self, method: Method, stages: int) -> list[Selection]:
        """Train a method until so many stages are done, each of them saved; return what they select."""
        selections: list[Selection] = []
        while method.done < stages:
            self._method = None  # what an error leaves behind is no state to go on from
            try:
                selections.append(method.advance())
            except TrainingError as error:
                last = self._sound if self._sound.exists() else self.checkpoint
                good = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint"
                raise TrainingError(
                    f"{error}, in stage {method.done + 1} of {self.stages}; {good}. {error.remedy}"
                ) from error
            self._save(method, selections[-1])
            self._method = method
            said = [f"{name} {fact:.4g}" for name, fact in selections[-1].facts.items() if isinstance(fact, float)]
            of = self.folder.name.rpartition("-")[0]
            _log.info("%s: stage %d of %d: %s", of, method.done, self.stages, ", ".join(said))
        return selections

    @property
    def _digest(self) -> str:
        """What tells this run from others."""
        return hashlib.blake2b(json.dumps(self._facts, sort_keys=True).encode(), digest_size=8).hexdigest()

    def _claim(self) -> None:
        """Write down whose folder this is, or refuse one that is another's."""
        path, facts = self.folder / "run.json", json.dumps(self._facts, indent=2, sort_keys=True)
        if not path.exists():
            write_whole(path, lambda temporary: temporary.write_text(facts + "\n", encoding="utf-8"))
        elif path.read_text(encoding="utf-8", errors="replace").strip() != facts:
            raise DataError(
                f"{self.folder} holds a run of other settings, or of another version (see {path}); remove the folder, "
                "or choose another"
            )

    def _restored(self, stages: int) -> Method:
        """Return the method with at most ``stages`` stages done: the one at hand, or from the checkpoint, or new."""
        if self._method is not None and self._method.done == stages:
            return self._method
        self._method = None
        method = self._build()
        if self.checkpoint.exists():
            import torch

            try:
                # weights_only: a checkpoint is data, and may come from outside.
                state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
                if state["run"] != self._digest:
                    raise ValueError("it is of a run of other settings")
                method.restore(state)
            except Exception as error:  # a damaged archive, or a state of another network, raises nearly anything
                reason = " ".join(str(error).split())[:200]
                raise DataError(
                    f"{self.checkpoint} is damaged or of another supernet ({type(error).__name__}: {reason}); "
                    "remove it to train anew"
                ) from error
            if method.done > stages:  # what later stages selected is known, what this one did was lost
                method = self._build()
        self._method = method
        return method

    # -- files -------------------------------------------------------------------------------------------------------

    def _save(self, method: Method, selection: Selection) -> None:
        import torch

        state = method.state() | {"run": self._digest}
        text = json.dumps({"ranking": selection.ranking.tolist(), "facts": dict(selection.facts)})
        # What it selected first: a checkpoint without it would leave a gap, the other way round it is trained again.
        write_whole(self._path(method.done - 1), lambda path: path.write_text(text + "\n", encoding="utf-8"))
        if method.sound:
            self._sound.unlink(missing_ok=True)
        elif self.checkpoint.exists() and not self._sound.exists():
            write_whole(self._sound, lambda path: shutil.copyfile(self.checkpoint, path))
        write_whole(self.checkpoint, lambda path: torch.save(state, path))

    @property
    def _sound(self) -> Path:
        return self.folder / "sound.pt"

    def _path(self, stage: int) -> Path:
        return self.folder / f"stage-{stage:04d}.json"

    def _read(self, stage: int) -> Selection | None:
        """Return what a finished stage selected, None where there is no file."""
        path = self._path(stage)
        if not path.exists():
            return None
        self._claim()
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            nothing = np.empty((0, self._space.n_sites), np.int64)
            ranking = self._space.check(np.array(found["ranking"], dtype=np.int64) if found["ranking"] else nothing)
            if not isinstance(found["facts"], dict):
                raise InputError("its facts are no mapping")
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise DataError(f"{path} is damaged ({error}); remove it to train the stage again") from error
        return Selection(ranking, found["facts"])
