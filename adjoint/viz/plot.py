"""Small charts as SVG text: curves over a number axis, and a table of counts as a heat map.

Read `line_chart`; `ticks` chooses the round numbers on an axis.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from html import escape

_IDS = itertools.count(1)
_STYLE = """
.ap{--ap-text:#1d2433;--ap-soft:#5b6475;--ap-grid:#e3e7ee;--ap-heat:53,101,201;--ap-deep:#fff;
--ap-0:#3565c9;--ap-1:#c9622a;--ap-2:#2f8f5b;--ap-3:#8a4fc2}
@media (prefers-color-scheme:dark){.ap{--ap-text:#e8ecf4;--ap-soft:#a3adbf;--ap-grid:#2b3242;
--ap-heat:134,168,245;--ap-deep:#10141f;--ap-0:#86a8f5;--ap-1:#f09a63;--ap-2:#6fcf97;--ap-3:#c39af0}}
.ap text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--ap-soft)}
.ap .name{fill:var(--ap-text)}
.ap .grid{stroke:var(--ap-grid);stroke-width:1}
.ap .curve{fill:none;stroke-width:2;stroke-linejoin:round}
.ap .mid{text-anchor:middle}
.ap .end{text-anchor:end}
.ap .strong{fill:var(--ap-text);font-weight:600}
.ap .deep{fill:var(--ap-deep)}
"""
_DASHES = ("", "6 4", "2 3", "9 3 2 3")  # curves differ by more than colour


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_label: str = "",
    y_label: str = "",
    title: str = "Line chart",
    y_zero: bool = False,
    width: int = 460,
    height: int = 290,
) -> str:
    """Curves through (x, y) points, at most four, as a self-contained `<svg>` element.

    Points that are not finite are left out. y_zero: let the y axis start at 0.
    Raises ValueError for no series, more than four, or no finite point.

    >>> from adjoint.viz import line_chart
    >>> line_chart({"loss": [(1, 2.0), (2, 1.0)]}, title="Loss").startswith("<svg")
    True
    """
    if not 1 <= len(series) <= 4:
        raise ValueError(f"line_chart draws 1 to 4 series, got {len(series)}")
    clean = {
        name: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
        for name, points in series.items()
    }
    xs = [x for points in clean.values() for x, _ in points]
    ys = [y for points in clean.values() for _, y in points]
    if not xs:
        raise ValueError("line_chart: no series has a finite point")
    x_low, x_high = _range(min(xs), max(xs))
    y_ticks = ticks(0.0 if y_zero else min(ys), max(ys))
    y_low, y_high = min(y_ticks[0], min(ys)), max(y_ticks[-1], max(ys))
    y_low, y_high = _range(y_low, y_high)
    left, right, top, bottom = 58, 16, 34, 46
    plot_w, plot_h = width - left - right, height - top - bottom

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - x_low) / (x_high - x_low) * plot_w,
            top + (y_high - y) / (y_high - y_low) * plot_h,
        )

    ends = "; ".join(f"{n}: {p[0][1]:.4g} to {p[-1][1]:.4g}" for n, p in clean.items() if p)
    out = _open(title, f"{y_label or 'y'} over {x_label or 'x'}. {ends}.", width, height)
    for y in y_ticks:
        _, py = at(x_low, y)
        out.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{py:.1f}" y2="{py:.1f}"/>'
            f'<text class="end" x="{left - 8}" y="{py + 4:.1f}">{_number(y)}</text>'
        )
    for x in ticks(x_low, x_high):
        if x_low <= x <= x_high:
            px, _ = at(x, y_low)
            out.append(
                f'<text class="mid" x="{px:.1f}" y="{height - bottom + 18}">{_number(x)}</text>'
            )
    key_x = float(left)
    for i, (name, points) in enumerate(clean.items()):
        path = "".join(
            f"{'L' if k else 'M'}{px:.1f} {py:.1f}"
            for k, (px, py) in enumerate(at(x, y) for x, y in points)
        )
        style = f'class="curve" style="stroke:var(--ap-{i})" stroke-dasharray="{_DASHES[i]}"'
        out.append(f'<path {style} d="{path}"/>')
        out.append(f'<path {style} d="M{key_x:.0f} 16h24"/>')
        out.append(f'<text class="name" x="{key_x + 30:.0f}" y="20">{escape(name)}</text>')
        key_x += 52 + 6.6 * len(name)
    out.append(
        f'<text class="mid" x="{left + plot_w / 2:.0f}" y="{height - 8}">{escape(x_label)}</text>'
        f'<text class="mid" transform="translate(14 {top + plot_h / 2:.0f}) rotate(-90)">'
        f"{escape(y_label)}</text></svg>"
    )
    return "".join(out)


def heat_map(
    counts: Sequence[Sequence[int]],
    labels: Sequence[str],
    *,
    x_label: str = "",
    y_label: str = "",
    title: str = "Table of counts",
    cell: int = 36,
) -> str:
    """A square table of counts; deeper colour for larger, each cell also written as a number.

    counts: rows by columns, both named by `labels`. Raises ValueError if the table is not square.

    >>> from adjoint.viz import heat_map
    >>> heat_map([[5, 0], [1, 4]], ["a", "b"]).count("<rect") == 4
    True
    """
    n = len(labels)
    if len(counts) != n or any(len(row) != n for row in counts):
        raise ValueError(f"heat_map: {n} labels need a table of {n} by {n}")
    left, top = 62, 58
    width, height = left + n * cell + 8, top + n * cell + 8
    largest = max(1, max((v for row in counts for v in row), default=1))
    right = sum(counts[i][i] for i in range(n))
    total = sum(sum(row) for row in counts)
    out = _open(title, f"{right} of {total} on the diagonal.", width, height)
    for j, label in enumerate(labels):
        middle = left + (j + 0.5) * cell
        out.append(f'<text class="mid" x="{middle:.0f}" y="{top - 9}">{escape(label)}</text>')
        out.append(
            f'<text class="end" x="{left - 9}" y="{top + (j + 0.5) * cell + 4:.0f}">'
            f"{escape(label)}</text>"
        )
    for i, row in enumerate(counts):
        for j, value in enumerate(row):
            # A lone error among hundreds must stay visible, so shade starts at 0.12.
            shade = 0.0 if value == 0 else 0.12 + 0.7 * value / largest
            x, y = left + j * cell, top + i * cell
            out.append(
                f'<rect x="{x + 1}" y="{y + 1}" width="{cell - 2}" height="{cell - 2}" rx="4" '
                f'style="fill:rgba(var(--ap-heat),{shade:.2f});stroke:var(--ap-grid)"/>'
            )
            if value:
                kind = "mid strong deep" if shade > 0.76 else "mid strong"
                out.append(
                    f'<text class="{kind}" x="{x + cell / 2:.0f}" y="{y + cell / 2 + 4:.0f}">'
                    f"{value}</text>"
                )
    middle = n * cell / 2
    out.append(
        f'<text class="mid" x="{left + middle:.0f}" y="16">{escape(x_label)}</text>'
        f'<text class="mid" transform="translate(16 {top + middle:.0f}) rotate(-90)">'
        f"{escape(y_label)}</text></svg>"
    )
    return "".join(out)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from below `low` to above `high`."""
    low, high = _range(low, high)
    raw = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(raw))
    step = unit * next(m for m in (1, 2, 5, 10) if m * unit >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


def _range(low: float, high: float) -> tuple[float, float]:
    """A range of positive length around the two numbers."""
    if high > low:
        return low, high
    pad = abs(low) / 2 or 0.5
    return low - pad, low + pad


def _number(value: float) -> str:
    return f"{value:.6g}"


def _open(title: str, description: str, width: int, height: int) -> list[str]:
    mark = f"ap{next(_IDS)}"
    return [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="ap" role="img" '
            f'aria-labelledby="{mark}t {mark}d" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}">'
        ),
        (
            f'<title id="{mark}t">{escape(title)}</title>'
            f'<desc id="{mark}d">{escape(description)}</desc><style>{_STYLE}</style>'
        ),
    ]
