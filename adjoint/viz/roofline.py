"""A roofline as SVG text: FLOPs per byte to the right, FLOP/s upwards, both logarithmic; the roof, and a dot per kernel.

What the numbers mean is said in `profiler/roofline.py`. Read `roofline_svg`; `_labels` keeps names off each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from adjoint.viz.plot import _open

_COLOURS = 4  # of `plot`'s style
_LINE = 15.0  # height of a line, in pixels
_LISTED = 12  # dots that are named below the picture
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 24, 30, 52
_STYLE = """<style>.ap .roof{fill:none;stroke:var(--ap-text);stroke-width:2;stroke-linejoin:round}
.ap .thin{stroke:var(--ap-soft);stroke-width:1.2}
.ap .dot{fill-opacity:.55;stroke-width:1.5}
.ap .hollow{fill-opacity:.12;stroke-dasharray:3 2}
.ap .lead{stroke:var(--ap-soft);stroke-width:.8}
.ap .small{font-size:11.5px}
</style>"""


@dataclass(frozen=True)
class Roof:
    """What some number of threads can do. peaks: FLOP/s by dtype.  slopes: bytes/s by where the bytes come from, the slowest
    first, which is drawn strongest."""

    name: str
    peaks: Mapping[str, float]
    slopes: Mapping[str, float]


@dataclass(frozen=True)
class Dot:
    """One kernel. intensity: FLOPs per byte.  rate: FLOP/s.  share: of its own roof.  weight: of all time.  about: shown
    when pointed at.  note: written at its end in the list.

    Without FLOPs it stands at the left edge, as far below the memory's roof as its share says, and is hollow.
    """

    name: str
    intensity: float
    rate: float
    share: float
    weight: float
    about: str = ""
    note: str = ""


def roofline_svg(
    dots: Sequence[Dot], roofs: Sequence[Roof], *, title: str = "Roofline", width: int = 800, height: int = 470
) -> str:
    """The picture as a self-contained `<svg>` element, dots in the order given, their area as their weight.

    The twelve heaviest are listed below. Raises ValueError without a roof, or for rates that are not positive.

    >>> from adjoint.viz.roofline import Dot, Roof, roofline_svg
    >>> roof = Roof("1 thread", {"float32": 1e11}, {"memory": 1e10})
    >>> picture = roofline_svg([Dot("matmul", 20.0, 6e10, 0.6, 1.0)], [roof])
    >>> picture.count('class="dot')
    1
    """
    if not roofs or any(r <= 0 for roof in roofs for r in (*roof.peaks.values(), *roof.slopes.values())):
        raise ValueError("roofline_svg needs at least one roof, with positive peaks and slopes")
    listed = sorted(dots, key=lambda d: -d.weight)[:_LISTED]
    plane = _Plane(dots, roofs, width, height)
    full = height + 26 + int(_LINE * 1.25 * len(listed)) if listed else height
    best = max(roofs[0].peaks.values())
    out = _open(title, f"{len(dots)} kernels under a roof of {_short(best)}FLOP/s.", width, full)
    out += [_STYLE, *plane.grid()]
    numbers = {id(d): k for k, d in enumerate(sorted(dots, key=lambda d: -d.weight), 1)}
    places = [(d, *plane.at_dot(d)) for d in dots]
    taken: list[_Box] = [(x - r * 0.95, y - r * 0.95, x + r * 0.95, y + r * 0.95) for _, x, y, r in places]
    for k, roof in enumerate(roofs):
        out += plane.roof(roof, first=k == 0, taken=taken)
    for d, x, y, r in sorted(places, key=lambda p: -p[3]):  # small ones above large ones
        out.append(_circle(d, x, y, r, numbers[id(d)]))
    out += _labels(places, numbers, plane, taken)
    out += _list(listed, numbers, height)
    return "".join([*out, "</svg>"])


class _Plane:
    """Where numbers lie in the picture."""

    def __init__(self, dots: Sequence[Dot], roofs: Sequence[Roof], width: int, height: int) -> None:
        peak = max(p for r in roofs for p in r.peaks.values())
        slopes = [s for r in roofs for s in r.slopes.values()]
        self.first = roofs[0]
        self.memory = next(iter(roofs[0].slopes.values()))
        corners = [p / s for r in roofs for p in r.peaks.values() for s in r.slopes.values()]
        xs = [d.intensity for d in dots if d.intensity > 0] + corners
        self.x_low = 10.0 ** math.floor(math.log10(min(*xs, 0.2)) - 0.15)
        self.x_high = 10.0 ** math.ceil(math.log10(max(*xs, 20.0)) + 0.1)
        low = [d.rate for d in dots if d.rate > 0] + [self.x_low * min(slopes)]
        self.y_low = 10.0 ** math.floor(math.log10(max(min(low), peak * 1e-6)))
        self.y_high = 10.0 ** math.ceil(math.log10(peak * 1.3))
        self.width, self.height = width, height
        self.right, self.floor = width - _RIGHT, height - _BOTTOM
        self.largest = 26.0
        self.drawn: list[_Box] = []  # where the lines of the roofs run

    def at(self, x: float, y: float) -> tuple[float, float]:
        u = math.log(x / self.x_low) / math.log(self.x_high / self.x_low)
        v = math.log(max(y, 1e-300) / self.y_low) / math.log(self.y_high / self.y_low)
        return _LEFT + u * (self.right - _LEFT), self.floor - max(v, -0.02) * (self.floor - _TOP)

    def at_dot(self, d: Dot) -> tuple[float, float, float]:
        """Centre and radius."""
        radius = max(3.5, self.largest * math.sqrt(d.weight))
        if d.rate > 0 and d.intensity > 0:
            return *self.at(d.intensity, d.rate), radius
        _, y = self.at(self.x_low, max(self.memory * self.x_low * d.share, self.y_low))
        return _LEFT + 2.0, y, radius

    def grid(self) -> Iterator[str]:
        for exponent in _powers(self.y_low, self.y_high):
            _, y = self.at(self.x_low, 10.0**exponent)
            yield f'<line class="grid" x1="{_LEFT}" x2="{self.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<text class="end" x="{_LEFT - 8}" y="{y + 4:.1f}">{_short(10.0**exponent)}</text>'
        for exponent in _powers(self.x_low, self.x_high):
            x, _ = self.at(10.0**exponent, self.y_low)
            yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{self.floor}"/>'
            yield f'<text class="mid" x="{x:.1f}" y="{self.floor + 18}">{10.0**exponent:.6g}</text>'
        middle = (_TOP + self.floor) / 2
        yield f'<text class="mid" x="{(_LEFT + self.right) / 2:.0f}" y="{self.floor + 38}">FLOPs per byte</text>'
        yield f'<text class="mid" transform="translate(14 {middle:.0f}) rotate(-90)">FLOP/s</text>'

    def roof(self, roof: Roof, first: bool, taken: list[_Box]) -> Iterator[str]:
        """Its lines with their names; only the slowest slope of the first roof is drawn strongly."""
        peak = max(roof.peaks.values())
        for k, (source, slope) in enumerate(roof.slopes.items()):
            corner = peak / slope
            start = max(self.x_low, self.y_low / slope)
            points = [self.at(start, start * slope), self.at(corner, peak), self.at(self.x_high, peak)]
            style = "roof" if first and k == 0 else "roof thin"
            dash = "" if k == 0 and first else ' stroke-dasharray="6 4"' if k == 0 else ' stroke-dasharray="2 3"'
            points = points if k == 0 else points[:2]
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            for (x0, y0), (x1, y1) in itertools.pairwise(points):
                steps = max(1, int(math.hypot(x1 - x0, y1 - y0) / 6))
                middles = [(x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps) for i in range(steps + 1)]
                self.drawn += [(x - 2.0, y - 2.0, x + 2.0, y + 2.0) for x, y in middles]
            yield f'<path class="{style}"{dash} d="M{path}"/>'
            yield from self._along(f"{source}, {roof.name}: {_short(slope)}B/s", points[0], points[1], taken)
        for kind, p in roof.peaks.items():
            if p != peak:
                (x0, y), (x1, _) = self.at(p / next(iter(roof.slopes.values())), p), self.at(self.x_high, p)
                yield f'<path class="roof thin" stroke-dasharray="6 4" d="M{x0:.1f} {y:.1f}L{x1:.1f} {y:.1f}"/>'
            if first or p not in self.first.peaks.values():
                yield from self._beside(f"{kind}, {roof.name}: {_short(p)}FLOP/s", self.at(self.x_high, p)[1], taken)

    def _along(self, text: str, low: tuple[float, float], high: tuple[float, float], taken: list[_Box]) -> Iterator[str]:
        """A text along a rising line, where it overlaps no other; left out where there is no room."""
        (x0, y0), (x1, y1) = low, high
        length, long = math.hypot(x1 - x0, y1 - y0), _wide(text)
        if length < long + 16 or x1 <= x0:
            return
        angle = math.atan2(y1 - y0, x1 - x0)
        for part in (0.30, 0.45, 0.2, 0.6, 0.12, 0.72):
            begin = part * (length - long)
            # boxes of some letters each, since the text is slanted
            pieces = [begin + long * (k + 0.5) / 12 for k in range(12)]
            for side in (-6.0, 15.0):
                centres = [
                    (x0 + s * math.cos(angle) - side * math.sin(angle), y0 + s * math.sin(angle) + side * math.cos(angle))
                    for s in pieces
                ]
                boxes = [(x - 8.0, y - 8.0, x + 8.0, y + 8.0) for x, y in centres]
                if not any(_touch(a, b) for a in boxes for b in taken) and all(b[1] > 4 for b in boxes):
                    taken += boxes
                    x = x0 + begin * math.cos(angle) - side * math.sin(angle)
                    y = y0 + begin * math.sin(angle) + side * math.cos(angle)
                    turned = f"translate({x:.1f} {y:.1f}) rotate({math.degrees(angle):.1f})"
                    yield f'<text class="small" transform="{turned}">{escape(text)}</text>'
                    return

    def _beside(self, text: str, y: float, taken: list[_Box]) -> Iterator[str]:
        """A text above or below the right end of a level line."""
        for dy in (-6.0, 14.0, -21.0, 29.0):
            box = (self.right - _wide(text), y + dy - 11, float(self.right), y + dy + 3)
            if not any(_touch(box, b) for b in taken):
                taken.append(box)
                yield f'<text class="end small" x="{self.right}" y="{y + dy:.1f}">{escape(text)}</text>'
                return


_Box = tuple[float, float, float, float]  # left, top, right, bottom


def _touch(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _circle(d: Dot, x: float, y: float, r: float, number: int) -> str:
    colour = f"var(--ap-{(number - 1) % _COLOURS})"
    kind = "dot" if d.rate > 0 and d.intensity > 0 else "dot hollow"
    about = f"<title>{escape(d.about or d.name)}</title>"
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" style="fill:{colour};stroke:{colour}">{about}</circle>'


def _labels(
    places: Sequence[tuple[Dot, float, float, float]], numbers: Mapping[int, int], plane: _Plane, taken: list[_Box]
) -> Iterator[str]:
    """Number and name beside each dot, heaviest first; the number alone where a name has no room, nothing where that has
    none either. Boxes of `taken` are kept free, and those of the labels added; lines are crossed where it must be."""
    for d, x, y, r in sorted(places, key=lambda p: -p[0].weight):
        number = numbers[id(d)]
        name = f"{number} {d.name}"
        for text, lines in ((name, plane.drawn), (str(number), plane.drawn), (name, []), (str(number), [])):
            found = _room(text, x, y, r, plane, taken, lines)
            if found is None:
                continue
            box, far = found
            taken.append(box)
            if far:
                near = min(max(x, box[0]), box[2]), (box[1] + box[3]) / 2
                yield f'<line class="lead" x1="{x:.1f}" y1="{y:.1f}" x2="{near[0]:.1f}" y2="{near[1]:.1f}"/>'
            yield f'<text class="name small" x="{box[0] + 2:.1f}" y="{box[3] - 4:.1f}">{escape(text)}</text>'
            break


def _room(
    text: str, x: float, y: float, r: float, plane: _Plane, taken: list[_Box], lines: list[_Box]
) -> tuple[_Box, bool] | None:
    """A free box for a text near a dot, and whether it is so far away that a line should lead there."""
    wide, high = _wide(text) + 4, _LINE
    for distance in (2.0, 14.0, 30.0, 48.0):
        for right, down in ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1)):
            reach = (r + distance) * (1.0 if 0 in (right, down) else 0.75)
            left = x + right * reach - (wide if right < 0 else wide / 2 if right == 0 else 0)
            top = y + down * reach - (high if down < 0 else high / 2 if down == 0 else 0)
            box = (left, top, left + wide, top + high)
            inside = box[0] > _LEFT and box[2] < plane.right + _RIGHT - 4 and box[1] > 4 and box[3] < plane.floor
            if inside and not any(_touch(box, b) for b in itertools.chain(taken, lines)):
                return box, distance > 2
    return None


def _list(listed: Sequence[Dot], numbers: Mapping[int, int], top: float) -> Iterator[str]:
    """The heaviest dots in words, below the picture."""
    if not listed:
        return
    columns = ((_LEFT, ""), (_LEFT + 318, "end"), (_LEFT + 408, "end"), (_LEFT + 478, "end"), (_LEFT + 494, ""))
    for (x, side), head in zip(columns, ("kernel", "of time", "GFLOP/s", "of roof", "about"), strict=True):
        yield f'<text class="small {side}" x="{x}" y="{top + 8}">{head}</text>'
    for k, d in enumerate(listed):
        y = top + 8 + _LINE * 1.25 * (k + 1)
        number = numbers[id(d)]
        rate = f"{d.rate / 1e9:.3g}" if d.rate else "-"
        cells = (_cut(f"{number} {d.name}", 268), f"{100 * d.weight:.1f}%", rate, f"{100 * d.share:.0f}%", _cut(d.note, 228))
        colour = f"var(--ap-{(number - 1) % _COLOURS})"
        yield f'<circle cx="{_LEFT - 12}" cy="{y - 4:.1f}" r="4" style="fill:{colour}"/>'
        for (x, side), cell in zip(columns, cells, strict=True):
            yield f'<text class="small name {side}" x="{x}" y="{y:.1f}">{escape(cell)}</text>'


def _powers(low: float, high: float) -> range:
    return range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)


def _short(value: float) -> str:
    """A number with a letter for thousands: 1.5e9 as 1.5 G, followed by a unit."""
    for power, letter in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if value >= 10.0**power:
            return f"{value / 10.0**power:.3g} {letter}"
    return f"{value:.3g} "


def _wide(text: str) -> float:
    """The width of a small text in pixels, in a wide face."""
    return 6.6 * len(text) + 3.0 * sum(c in "+×@=mwMWGT%" for c in text)


def _cut(text: str, width: float) -> str:
    """As much of a text as fits."""
    if _wide(text) <= width:
        return text
    while text and _wide(text) + 11.0 > width:
        text = text[:-1]
    return text + "…"
