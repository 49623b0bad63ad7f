"""What long work says of itself while a command runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from nasplug.benchmarks.compare import Landed

__all__ = ["Watch", "told"]

PLAIN_STEPS, PLAIN_S = 10, 5.0
"""Where nobody watches, a comparison says a line each tenth of the way, but none within 5 seconds of the last."""


@contextmanager
def told(quiet: bool) -> Iterator[None]:
    """Show on standard error what nasplug logs within the ``with`` block, such as the stages of a supernet.

    Args:
        quiet: show nothing: the caller prints for machines.
    """
    from rich.console import Console
    from rich.logging import RichHandler

    logger, handler = (
        logging.getLogger("nasplug"),
        RichHandler(console=Console(stderr=True), show_path=False, show_level=False, show_time=False),
    )
    level = logger.level
    if not quiet:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class Watch:
    """Shows a comparison while it runs: a bar over all runs with the time left, and a bar a strategy.

    Where the console is no terminal: a plain line at every tenth of the way and at the end, without colours or control
    codes. A context manager.

    Args:
        runs: strategy -> how many runs it has.
        console: where to show it.
        quiet: show nothing: the caller prints for machines.
    """

    def __init__(self, runs: Mapping[str, int], console: Console, *, quiet: bool = False):
        self._console, self._quiet = console, quiet
        self._total, self._done, self._reused, self._failed = sum(runs.values()), 0, 0, dict.fromkeys(runs, 0)
        self._started = self._said = time.monotonic()
        self._tenth = False
        self._live: Any = None
        if console.is_terminal and not quiet:
            from rich.console import Group
            from rich.live import Live
            from rich.markup import escape
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            text, bar, count = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
            self._all = Progress(text, bar, count, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
            self._each = Progress(text, bar, count, TextColumn("[red]{task.fields[failed]}"))
            width = max(map(len, ("all runs", *runs)))
            self._task = self._all.add_task("all runs".ljust(width), total=self._total)
            self._tasks = {
                name: self._each.add_task(escape(name.ljust(width)), total=n, failed="") for name, n in runs.items()
            }
            self._live = Live(Group(self._all, self._each), console=console, transient=True)

    def __enter__(self) -> Watch:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, landed: Landed) -> None:
        """Take in a run that is over."""
        self._done += 1
        self._reused += landed.how == "reused"
        self._failed[landed.strategy] += landed.how == "failed"
        if self._live is not None:
            self._move(landed)
        elif not self._quiet and landed.how != "reused":
            self._say_plainly()

    def stage(self, text: str) -> None:
        """Say what is done when all runs are over."""
        if self._live is not None:
            self._all.update(self._task, description=text)

    def _move(self, landed: Landed) -> None:
        failed = self._failed[landed.strategy]
        self._each.update(self._tasks[landed.strategy], advance=1, failed=f"{failed} failed" if failed else "")
        if landed.how == "reused":  # the clock starts behind them: they would make the time left too short
            self._all.reset(self._task, completed=self._done, total=self._total)
        else:
            self._all.advance(self._task)

    def _say_plainly(self) -> None:
        now, computed, todo = time.monotonic(), self._done - self._reused, self._total - self._reused
        self._tenth |= computed * PLAIN_STEPS // todo > (computed - 1) * PLAIN_STEPS // todo
        if computed < todo and (not self._tenth or now - self._said < PLAIN_S):
            return
        self._tenth, self._said = False, now
        failed = sum(self._failed.values())
        spent = now - self._started
        text = f"{self._done} of {self._total} runs, {_span(spent)}"
        if failed:
            text += f", {failed} failed"
        if computed < todo:
            text += f", about {_span(spent / computed * (todo - computed))} left"
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
