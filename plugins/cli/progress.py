"""What long work says of itself while a command runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["told"]


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
