"""Hooks of the documentation's build: the package as one tree, and links to files of the repository.

The rooms are folders at the top of the repository, mapped to packages in ``pyproject.toml``; the API pages are made by
reading source files, which needs the folders as an installed copy has them. Pages link to files of the repository as
they lie there, so that the links work where the Markdown itself is read; the site carries those files along.
"""

from __future__ import annotations

import re
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority, get_plugin_logger
from mkdocs.structure.files import File

log = get_plugin_logger("source_tree")

LINK = re.compile(r"(?<=\]\()(?P<path>\.\./[^)#\s]+)(?=[)#])")
CARRIED = "repository"
_tree: list[tempfile.TemporaryDirectory[str]] = []  # kept until the process ends


@event_priority(100)  # before mkdocstrings reads its options
def on_config(config: Any) -> Any:
    """Point mkdocstrings at a folder that looks like the installed package."""
    top = Path(config.config_file_path).parent
    with (top / "pyproject.toml").open("rb") as file:
        rooms = tomllib.load(file)["tool"]["setuptools"]["package-dir"]
    _tree.append(tempfile.TemporaryDirectory(prefix="nasplug-docs-"))
    for package, folder in rooms.items():
        made = Path(_tree[-1].name, *package.split("."))
        made.mkdir(parents=True, exist_ok=True)
        for source in (top / folder).glob("*.py"):
            (made / source.name).symlink_to(source)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [_tree[-1].name]
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Carry the files of the repository that a page links to, and point its links at them."""
    docs = Path(config.docs_dir).resolve()
    here = (docs / page.file.src_uri).parent

    def carried(match: re.Match[str]) -> str:
        target = (here / match["path"]).resolve()
        if target.is_relative_to(docs) or not target.is_relative_to(docs.parent):
            return match["path"]
        if not target.is_file():
            log.warning("%s links to %s, which is no file of the repository", page.file.src_uri, match["path"])
            return match["path"]
        uri = f"{CARRIED}/{target.relative_to(docs.parent).as_posix()}"
        if target.suffix in (".py", ".yml", ".toml"):  # a browser shows text, and downloads code
            uri += ".txt"
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, abs_src_path=str(target)))
        return "/".join([".."] * page.file.src_uri.count("/") + [uri])

    return LINK.sub(carried, markdown)
