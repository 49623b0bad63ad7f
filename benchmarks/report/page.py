"""The page as one file without network.

Everything that comes from the study's files is text to the template, which escapes it. The page's content policy
names its two scripts by hash and allows no request, so a name that slipped through could neither run nor call home.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from pathlib import Path

from nasplug.benchmarks.report.content import page
from nasplug.benchmarks.report.study import Study, read_study
from nasplug.errors import MissingDependencyError
from nasplug.files import write_whole

__all__ = ["render", "write_report"]


def write_report(folder: Path) -> Path:
    """Write ``report.html`` from ``results.parquet``, ``timings.parquet`` and ``summary.json``; return its path.

    One self-contained file, written whole or not at all; the same input gives the same bytes.

    Args:
        folder: what ``nasplug compare --out`` wrote.

    Raises:
        MissingDependencyError: plotly or jinja2 is not installed.
        DataError: a file is missing or damaged, or the report cannot be written.
        InputError: the summary has another schema version.
    """
    target = Path(folder) / "report.html"
    text = render(read_study(target.parent))
    write_whole(target, lambda path: path.write_text(text, encoding="utf-8", newline="\n"))
    return target


def render(study: Study) -> str:
    """Return the page of a study.

    Raises: MissingDependencyError where plotly or jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingDependencyError(
            f"the report needs the package {error.name!r}; pip install 'nasplug[report]'"
        ) from error
    names = ("html.jinja", "css", "dark.css", "js")
    own = {kind: files(__package__).joinpath(f"report.{kind}").read_text("utf-8") for kind in names}
    plotly = get_plotlyjs()
    content, charts = page(study)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    # Long specifications may break where their options do.
    environment.filters["breakable"] = lambda text: Markup("<wbr>").join(re.split("(?<=[:,=])", text))
    return environment.from_string(own["html.jinja"]).render(
        page=content,
        charts=charts,
        policy=_policy(plotly, own["js"]),
        style=Markup(own["css"]),
        dark=Markup(own["dark.css"]),
        plotly=Markup(plotly),
        script=Markup(own["js"]),
    )


def _policy(*scripts: str) -> str:
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
