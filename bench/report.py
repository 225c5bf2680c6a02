"""What every bench ends with: a table on the terminal, a JSON file, and a plot where matplotlib is installed."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"

Row = Mapping[str, Any]


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, int):
        return f"{value:,}"
    return "" if value is None else str(value)


def table(rows: Sequence[Row]) -> str:
    """Rows as aligned text; the columns are the keys of all rows in order of appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(columns, *cells, strict=True)]
    numeric = [any(isinstance(row.get(column), int | float) for row in rows) for column in columns]
    lines = []
    for line in (columns, *cells):
        parts = (text.rjust(width) if right else text.ljust(width) for text, width, right in zip(line, widths, numeric, strict=True))
        lines.append("  ".join(parts).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def render(
    title: str, rows: Sequence[Row], json_path: Path, png_path: Path | None = None, *, label: str = "case", value: str = "median"
) -> None:
    """Print a table, write JSON, draw one bar per row.

    Args:
        title: what was measured, in which unit.
        rows: one mapping per case.
        json_path: where the rows go, with the machine and the date.
        png_path: where the plot goes; None, or no matplotlib: no plot.
        label: column that names a bar.
        value: column that is drawn; `low` and `high` columns, when present, are its error bars.
    """
    print(f"\n{title}\n\n{table(rows)}\n", flush=True)
    json_path.parent.mkdir(parents=True, exist_ok=True)
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    content = {"title": title, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine, "rows": list(rows)}
    json_path.write_text(json.dumps(content, indent=1) + "\n")
    if png_path is not None and _matplotlib(png_path):
        _plot(title, [row for row in rows if isinstance(row.get(value), int | float)], png_path, label, value)


def plot_ratios(title: str, rows: Sequence[Row], path: Path) -> None:
    """One bar per row with a `ratio`; a line shows its `target`, the colour whether it is met.

    Args:
        title: what is divided by what.
        rows: as for `render`; those without a ratio are left out.
        path: where the plot goes; nothing happens without matplotlib.
    """
    judged = [row for row in rows if row.get("ratio") is not None]
    if not judged or not _matplotlib(path):
        return
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.34 * len(judged)))
    for position, row in enumerate(judged):
        target = row.get("target")
        colour = "#9aa5b1" if target is None else "#3a8f5c" if row["met"] else "#c9782b"
        axes.barh(position, row["ratio"], color=colour)
        axes.text(row["ratio"], position, f" {row['ratio']:.2f}", va="center", fontsize=8)
        if target is not None:
            axes.plot([target, target], [position - 0.45, position + 0.45], color="black", linewidth=2)
    axes.set_yticks(range(len(judged)), [f"{row['case']} / {row['of']}" for row in judged])
    axes.invert_yaxis()
    axes.set_title(title, fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _matplotlib(path: Path) -> bool:
    try:
        import matplotlib as mpl
    except ImportError:
        print(f"no plot: matplotlib is not installed ({path.name})")
        return False
    mpl.use("agg")
    return True


def _plot(title: str, rows: Sequence[Row], path: Path, label: str, value: str) -> None:
    from matplotlib import pyplot

    values = [float(row[value]) for row in rows]
    low = [value - float(row.get("low", value)) for row, value in zip(rows, values, strict=True)]
    high = [float(row.get("high", value)) - value for row, value in zip(rows, values, strict=True)]
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.34 * len(rows)))
    axes.barh([str(row.get(label, "")) for row in rows], values, xerr=[low, high], color="#4a7ebb", ecolor="#333333", capsize=3)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
