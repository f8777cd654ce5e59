"""The goals as a picture: how far along to its limit each measure is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["draw"]


def draw(verdicts: Sequence[Mapping[str, Any]], path: Path) -> None:
    """PATH.png and PATH.svg: a panel for each goal, a bar for each net, a mark at each limit.

    Needs matplotlib (extra ``plot``).  Goals that nothing was measured for have no panel.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no plot: matplotlib is not installed (pip install 'onnxvis[plot]')")
        return
    panels: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for verdict in verdicts:
        if verdict["value"] is not None:
            panels.setdefault((verdict["task"], verdict["measure"]), []).append(verdict)
    if not panels:
        return
    heights = [len(shown) + 2 for shown in panels.values()]
    figure = Figure(figsize=(8, 0.22 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
    for axis, ((task, measure), shown) in zip(axes, panels.items(), strict=True):
        _panel(axis, f"{task}: {measure}", shown)
    for suffix in (".png", ".svg"):
        figure.savefig(path.with_suffix(suffix), dpi=120)


def _panel(axis: Any, title: str, shown: Sequence[Mapping[str, Any]]) -> None:
    rows = range(len(shown))
    colours = ["tab:green" if verdict["met"] else "tab:red" for verdict in shown]
    axis.barh(rows, [verdict["value"] for verdict in shown], color=colours, height=0.7)
    axis.scatter([verdict["limit"] for verdict in shown], rows, marker="|", color="black", s=150, zorder=3)
    axis.set_yticks(rows, [verdict["net"] for verdict in shown], fontsize=7)
    axis.set_title(f"{title} (bar), goal (|)", fontsize=8, loc="left")
    axis.tick_params(axis="x", labelsize=7)
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)
