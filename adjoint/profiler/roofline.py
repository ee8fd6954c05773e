"""Each kernel beside what the machine can do: the roofline model (S. Williams, A. Waterman, D. Patterson, CACM 2009).

A kernel that does `flops` on `bytes` can do no more than min(peak, intensity * bandwidth) FLOP/s, its intensity being
flops / bytes. Peak and bandwidth are those measured by `peaks`: for all threads where the kernel is one that threads
share, else for one; the bandwidth is that of working sets as large as the kernel's, so that what lies in a cache is
measured by that cache. A kernel without arithmetic is held against the bandwidth alone. Read `roofline`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from adjoint.profiler.averages import _cut, _time, columns, place
from adjoint.profiler.events import Event, Kind, Place
from adjoint.profiler.peaks import Machine, machine

_APART = 1.15  # between two lines of the picture, at least


@dataclass
class Row:
    """One kernel, all its runs together.

    calls: how many runs.  seconds: all their time (of a product, with its packing).  flops, bytes: of all.  shared:
    whether threads share it.  attainable: what the roof allows, in FLOP/s, or in bytes/s where there are no FLOPs.
    """

    name: str
    inputs: tuple[Kind, ...]
    results: tuple[Kind, ...]
    where: tuple[Place, ...]
    double: bool
    shared: bool
    calls: int = 0
    seconds: float = 0.0
    flops: int = 0
    bytes: int = 0
    attainable: float = 0.0

    @property
    def flops_per_second(self) -> float:
        return self.flops / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_second(self) -> float:
        return self.bytes / self.seconds if self.seconds else 0.0

    @property
    def intensity(self) -> float:
        """FLOPs per byte."""
        return self.flops / self.bytes if self.bytes else 0.0

    @property
    def shape(self) -> str:
        """Of a product or a convolution the shapes of its operands, else that of the (largest) result."""
        if self.name in ("matmul", "convolve"):
            return " @ ".join(_shape(kind) for kind in self.inputs[:2])
        return _shape(max(self.results, key=lambda kind: math.prod(kind[0]))) if self.results else "-"

    @property
    def share(self) -> float:
        """The rate as a share of the attainable. A little above 1 is noise of the measurements."""
        rate = self.flops_per_second if self.flops else self.bytes_per_second
        return rate / self.attainable if self.attainable else 0.0


class Roofline(list):
    """Rows, those that took longest first; prints as a table. machine: the roof."""

    def __init__(self, rows: Iterable[Row], roof: Machine) -> None:
        super().__init__(rows)
        self.machine = roof

    def table(self, row_limit: int = 100) -> str:
        """The rows as text, at most `row_limit` (-1: all)."""
        names = ["Kernel", "Shape", "Time %", "Time", "# of Calls", "GFLOP/s", "GB/s", "FLOP/byte", "% of roof", "Threads"]
        names.append("Source Location")
        total = sum(r.seconds for r in self)
        shown = self if row_limit < 0 else self[:row_limit]
        rows = []
        for r in shown:
            rows.append([
                r.name, r.shape, f"{100 * r.seconds / total if total else 0:.1f}%", _time(1e6 * r.seconds), str(r.calls),
                _rate(r.flops_per_second), _rate(r.bytes_per_second), f"{r.intensity:.2f}" if r.flops else "-",
                f"{100 * r.share:.0f}%" if r.attainable else "-",
                str(self.machine.threads if r.shared else 1),
                _cut(", ".join(place(w) for w in r.where[:3]) + (" ..." if len(r.where) > 3 else ""), 75) or "-",
            ])  # fmt: skip
        m = self.machine
        parts = [columns(names, rows, left=(0, 1, 10))]
        if len(shown) < len(self):
            parts.append(f"{len(self) - len(shown)} more rows")
        for together in (False, True) if m.threads > 1 else (False,):
            threads = f"{m.threads} threads" if together else "1 thread"
            parts.append(
                f"Roof of {threads}: {m.peak(False, together) / 1e9:.0f} GFLOP/s in float32, {m.peak(True, together) / 1e9:.0f} in "
                f"float64; {m.memory(together) / 1e9:.1f} GB/s from memory, {m.bandwidth[together][0] / 1e9:.0f} in the first cache"
            )
        return "\n".join(parts) + "\n"

    def __repr__(self) -> str:
        return self.table()


def roofline(events: Iterable[Event]) -> Roofline:
    """The kernels of some events, equal ones (operations, shapes, lines) together."""
    roof = machine()
    rows: dict[tuple, Row] = {}
    for e in events:
        if e.kind == "interpreted":  # no kernel, but many operations in NumPy, once
            continue
        packing = e.name.endswith(" (packing)")
        name = e.name.removesuffix(" (packing)")
        key = (name, e.kind, e.inputs, e.results, e.where)
        row = rows.get(key)
        if row is None:
            row = rows[key] = Row(name, e.inputs, e.results, e.where, e.double, e.shared)
        row.calls += not packing
        row.shared |= e.shared
        row.seconds += (e.end - e.begin) / 1e9
        row.flops += e.flops
        row.bytes += e.bytes
    for row in rows.values():
        calls = max(1, row.calls)
        bandwidth = roof.bytes_per_second(row.bytes / calls, row.shared)
        peak = roof.peak(row.double, row.shared)
        row.attainable = min(peak, row.intensity * bandwidth) if row.flops and row.bytes else peak if row.flops else bandwidth
        if not row.flops and not row.bytes:
            row.attainable = 0.0
    return Roofline(sorted(rows.values(), key=lambda r: -r.seconds), roof)


def draw(rows: Roofline) -> str:
    """The picture of a roofline: see `viz.roofline`."""
    from adjoint.viz.roofline import Dot, Roof, roofline_svg

    m = rows.machine
    double = any(r.double for r in rows)
    single = any(not r.double for r in rows) or not rows
    kinds = ["float32"] * single + ["float64"] * double
    several = m.threads > 1
    peaks = {kind: m.flops[kind, several] for kind in kinds}
    slopes = {"memory": m.memory(several), "first cache": m.bandwidth[several][0]}
    roofs = [Roof(f"{m.threads} threads" if several else "1 thread", peaks, slopes)]
    # of one thread, what differs enough to be seen
    alone = {k: m.flops[k, False] for k in kinds if m.flops[k, False] * _APART < peaks[k]}
    memory = m.memory(False)
    if several and (alone or memory * _APART < m.memory()):
        roofs.append(Roof("1 thread", alone or peaks, {"memory": memory}))
    dots = []
    total = sum(r.seconds for r in rows) or 1.0
    for r in rows:
        lines = ", ".join(place(w) for w in r.where[:2])
        about = (
            f"{r.name} {r.shape}: {r.calls} calls, {_time(1e6 * r.seconds)}, {_rate(r.flops_per_second)} GFLOP/s, "
            f"{_rate(r.bytes_per_second)} GB/s, {100 * r.share:.0f}% of its roof; {lines}"
        )
        dots.append(Dot(r.name, r.intensity, r.flops_per_second, r.share, r.seconds / total, about, f"{r.shape}  {lines}"))
    return roofline_svg(dots, roofs)


def _shape(kind: Kind) -> str:
    return "×".join(map(str, kind[0])) or "scalar"


def _rate(per_second: float) -> str:
    rate = per_second / 1e9
    if not rate:
        return "-"
    return f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"
