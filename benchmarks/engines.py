"""Engines: where the runs of a comparison are made. Processes of this machine, or a cluster of Dask or Ray.

An engine applies a function to items, each by itself and in any order, and outlives its workers: what a worker had in
hand when it died is made again by another. joblib is the way to processes here; its ways to Dask and Ray are not used:
in joblib 1.5 a task that Dask gives up calls nobody back, so that a generator of results would wait for it, and Ray's
backend has no such generator.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar
from urllib.parse import urlsplit

from nasplug.errors import InputError, MissingDependencyError, NasplugError

__all__ = ["DEATHS", "ENGINES", "Engine", "LostError"]

Item = TypeVar("Item")
Result = TypeVar("Result")

DEATHS = 3
"""How often an item is tried again whose worker has died."""

AHEAD = 4
"""Items that a worker of Ray has waiting besides the one in hand, and that one of loky has in all."""

_CONNECT_S = 10


class LostError(NasplugError):
    """An item that no worker survived."""


@dataclass(frozen=True)
class Engine:
    """Where items are worked on.

    Attributes:
        name: ``loky`` (processes here; none but this one where ``jobs`` is 1), ``dask`` or ``ray``.
        jobs: worker processes, -1 for one a core; a running cluster has its own.
        scheduler: address of a running cluster, for example ``tcp://host:8786`` of Dask's or ``host:6379`` of Ray's;
            None starts one on this machine, which ends with the last item.

    Raises:
        InputError: another engine, no job, a scheduler for ``loky``.
        MissingDependencyError: the engine is not installed.
    """

    name: str = "loky"
    jobs: int = 1
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise InputError(f"expected a backend out of {', '.join(ENGINES)}, got {self.name!r}")
        if self.jobs == 0 or self.jobs < -1:
            raise InputError(f"expected jobs of at least 1, or -1 for one a core, got {self.jobs}")
        if self.scheduler is not None and self.name == "loky":
            raise InputError(f"loky has no scheduler; take --backend dask or ray for the one at {self.scheduler}")
        if find_spec(PACKAGES[self.name]) is None:
            raise MissingDependencyError(
                f"the backend {self.name} needs the package {PACKAGES[self.name]!r}; pip install 'nasplug[{self.name}]'"
            )

    def spread(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[Item, Result | LostError]]:
        """Yield every item with its result, as they finish.

        Args:
            function: what is applied; importable by the workers. It must not raise.
            items: to apply it to.

        Raises:
            InputError: no cluster answers at the address.
        """
        if not items:
            return
        if self.scheduler is not None:
            self._knock(self.scheduler)
        from joblib import cpu_count  # which knows of affinity and of containers

        jobs = cpu_count() if self.jobs == -1 else self.jobs
        yield from ENGINES[self.name](function, items, jobs, self.scheduler)

    def _knock(self, scheduler: str) -> None:
        """Fail within seconds where nobody listens: the libraries try for minutes."""
        where = urlsplit(scheduler if "://" in scheduler else f"//{scheduler}")
        try:
            if where.hostname and where.port:
                socket.create_connection((where.hostname, where.port), timeout=_CONNECT_S).close()
        except (OSError, ValueError) as error:
            raise _unreachable(self.name, scheduler, error) from error


def _loky(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int, scheduler: str | None
) -> Iterator[tuple[Item, Result | LostError]]:
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    left = dict(enumerate(items))
    deaths = 0
    while left:
        try:
            with parallel_config(backend="sequential" if jobs == 1 else "loky"):
                pool = Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1, pre_dispatch=AHEAD * jobs)
                for number, result in pool(delayed(_numbered)(function, *one) for one in list(left.items())):
                    deaths = 0
                    yield left.pop(number), result
        except TerminatedWorkerError:  # all that were in hand are lost, and begin anew
            deaths += 1
            if deaths == DEATHS:  # some of those are deadly, and which they are shows in a process of their own
                for number in list(left)[: AHEAD * jobs]:
                    yield left.pop(number), _alone(function, items[number])
                deaths = 0


def _alone(function: Callable[[Item], Result], item: Item) -> Result | LostError:
    """Return the result of one item, worked on by a process that has nothing else in hand."""
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    with ProcessPoolExecutor(max_workers=1) as alone:
        try:
            return alone.submit(function, item).result()
        except TerminatedWorkerError as error:
            return LostError(f"its worker process died, for lack of memory perhaps ({' '.join(str(error).split())})")


def _numbered(function: Callable[[Item], Result], number: int, item: Item) -> tuple[int, Result]:
    return number, function(item)


def _dask(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int, scheduler: str | None
) -> Iterator[tuple[Item, Result | LostError]]:
    dask, distributed = import_module("dask"), import_module("distributed")
    here = {"threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": None}
    with ExitStack() as opened:
        opened.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": DEATHS}))
        where = scheduler or opened.enter_context(distributed.LocalCluster(n_workers=jobs, **here))
        try:
            client = opened.enter_context(distributed.Client(where, timeout=_CONNECT_S))
        except (OSError, ValueError) as error:
            raise _unreachable("dask", scheduler, error) from error
        waiting = {client.submit(function, item, pure=False): item for item in items}
        suspects = []
        for future in distributed.as_completed(list(waiting)):
            item = waiting.pop(future)
            if future.exception() is None:
                yield item, future.result()
            else:
                suspects.append(item)
            future.release()
        for item in suspects:  # Dask blames a death on all that the worker had waiting; alone, there is no doubt
            future = client.submit(function, item, pure=False)
            lost = future.exception()
            yield item, future.result() if lost is None else LostError(" ".join(str(lost).split()))


def _ray(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int, scheduler: str | None
) -> Iterator[tuple[Item, Result | LostError]]:
    ray = import_module("ray")
    try:
        if scheduler is None:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a comparison tells nobody that it runs
            ray.init(num_cpus=jobs, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
        else:
            ray.init(address=scheduler, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _unreachable("ray", scheduler, error) from error
    try:
        work = ray.remote(max_retries=DEATHS)(_apply)
        wanted = int(ray.cluster_resources().get("CPU", 1)) * (1 + AHEAD)
        shared, rest = ray.put(function), list(reversed(items))
        waiting: dict[Any, Item] = {}
        while rest or waiting:
            while rest and len(waiting) < wanted:
                item = rest.pop()
                waiting[work.remote(shared, item)] = item
            for done in ray.wait(list(waiting))[0]:
                item = waiting.pop(done)
                try:
                    result = ray.get(done)
                except ray.exceptions.RayError as error:
                    yield item, LostError(" ".join(str(error).split()))
                else:
                    yield item, result
    finally:
        ray.shutdown()


def _apply(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)


def _unreachable(what: str, scheduler: str | None, error: Exception) -> NasplugError:
    reason = " ".join(str(error).split()) or type(error).__name__
    if scheduler is None:
        return NasplugError(f"{what} does not start here: {reason}")
    return InputError(f"no {what} cluster answers at {scheduler} ({reason}); check --scheduler, or leave it out")


ENGINES: Mapping[str, Callable[..., Iterator[Any]]] = {"loky": _loky, "dask": _dask, "ray": _ray}
"""Engines by name."""

PACKAGES = {"loky": "joblib", "dask": "distributed", "ray": "ray"}
"""What each of them imports."""
