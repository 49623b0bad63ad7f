"""How docstrings read on a page: references become links, one-line notes stand out, plain lists are lists."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|attr|data|mod|exc):`~?(?P<name>[^`]+)`")
NOTE = re.compile(r"^(?P<indent> *)(?P<word>Raises|Sources?|Differs|Shapes): (?=\S)", re.MULTILINE)
LIST = re.compile(
    r"^(?P<head>(?!Args|Attributes|Raises|Returns|Yields|Example)[A-Z][\w ]*:)\n(?P<body>(?: +.*\n?|\n)+)", re.MULTILINE
)
"""A heading that is none of the parser's own, and what is indented under it."""


class Readable(griffe.Extension):
    """Rewrites docstrings before they are parsed, and leaves Python's own methods out of the pages."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.name.startswith("__") and not obj.is_module:
            obj.public = False
        if obj.is_attribute and str(obj.annotation) == "ClassVar":  # a bare one is taken for a field of the dataclass
            obj.labels.discard("instance-attribute")
        if obj.docstring is None:
            return
        text = ROLE.sub(lambda match: _link(obj, match["name"]), obj.docstring.value)
        text = NOTE.sub(r"\g<indent>**\g<word>:** ", text)
        obj.docstring.value = LIST.sub(lambda match: f"{match['head']}\n{_items(match['body'])}", text)


def _link(obj: griffe.Object, name: str) -> str:
    """Return a reference that is a link where some page has the thing, and its name otherwise."""
    scope = obj if obj.is_module or obj.is_class else obj.parent or obj
    try:
        path = name if name.startswith("nasplug.") else scope.resolve(name.lstrip("."))
    except griffe.NameResolutionError:
        path = f"{scope.module.path}.{name.lstrip('.')}"
    return f'<autoref identifier="{path}" optional><code>{name.lstrip(".")}</code></autoref>'


def _items(body: str) -> str:
    """Return an indented block with each of its least indented lines as an item of a list."""
    lines = body.splitlines(keepends=True)
    least = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "".join(f"{line[:least]}- {line[least:]}" if line.strip() and line[least] != " " else line for line in lines)
