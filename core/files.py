"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from nasplug.errors import DataError

__all__ = ["require_writable", "write_whole"]


def write_whole(
    path: Path, save: Callable[[Path], object], *, remedy: str = "free space, or choose a folder you can write to"
) -> None:
    """Write a file through a temporary one beside it, so that readers, and a killed process, never leave a part.

    Args:
        path: the file; its folder is made where it is missing.
        save: writes to the path it is given, of another name and ending.
        remedy: what the error tells the person to do.

    Raises: DataError if the folder cannot be made or written, or is full; a file that was there stays as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"cannot write {path} ({error.strerror or error}); {remedy}") from error


def require_writable(folder: Path) -> None:
    """Raise DataError, as :func:`write_whole`, where no file can be written into a folder; it is made where missing."""
    probe = folder / ".nasplug"
    write_whole(probe, lambda path: path.touch())
    probe.unlink(missing_ok=True)
