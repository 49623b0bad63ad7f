"""A page on one cost model: how good it gets with more measurements, and its predictions beside the measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import MissingDependencyError
from nasplug.files import write_whole

__all__ = ["write_latency_page"]


def write_latency_page(
    path: Path,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    predicted: NDArray[np.float64],
    measured: NDArray[np.float64],
) -> None:
    """Write one self-contained HTML file.

    Args:
        path: of the file.
        title: model and device.
        rows: mean accuracies (:class:`nasplug.cost_models.accuracy.Accuracy`), with ``count``, the measurements fitted
            on; one row of count None for a saved model.
        predicted: ms ``(t,)`` of architectures that were not fitted on.
        measured: their latencies, ms ``(t,)``.

    Raises: MissingDependencyError where plotly is not installed; DataError where the file cannot be written.
    """
    try:
        from plotly.subplots import make_subplots
    except ImportError as error:
        raise MissingDependencyError("the page needs plotly; pip install 'nasplug[report]'") from error
    curve = [row for row in rows if row["count"] is not None]
    titles = ("Predicted and measured, ms", *(("Spearman", "Mean error, %") if curve else ()))
    figure = make_subplots(rows=1, cols=len(titles), subplot_titles=titles)
    ends = [float(min(predicted.min(), measured.min())), float(max(predicted.max(), measured.max()))]
    figure.add_scatter(
        x=measured.tolist(), y=predicted.tolist(), mode="markers", marker={"size": 4, "opacity": 0.5}, row=1, col=1
    )
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"dash": "dot", "color": "gray"}, row=1, col=1)
    figure.update_xaxes(title="measured", row=1, col=1)
    figure.update_yaxes(title="predicted", row=1, col=1)
    counts = [row["count"] for row in curve]
    for column, (key, factor) in enumerate((("spearman", 1.0), ("mape", 100.0)) if curve else (), start=2):
        values = [None if row[key] is None else factor * row[key] for row in curve]
        figure.add_scatter(x=counts, y=values, mode="lines+markers", row=1, col=column)
        figure.update_xaxes(title="measured networks", type="log", row=1, col=column)
    figure.update_layout(title=title, showlegend=False, template="plotly_white")
    page = figure.to_html(include_plotlyjs=True, full_html=True)
    write_whole(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))
