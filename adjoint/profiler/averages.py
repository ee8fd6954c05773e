"""Events put together by name, and the table of them. Read `EventList.key_averages`, then `Averages.table`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adjoint.profiler.events import BLOCKS, WORK, Event, Place

SORTS = (
    "self_cpu_time_total", "cpu_time_total", "cpu_time", "count", "flops", "bytes", "kernel_time_total", "key", "name",
)  # fmt: skip


class Average:
    """Events of one key. Times in microseconds, as in PyTorch.

    count: how many.  cpu_time_total: their time, children included; self_cpu_time_total: without.  cpu_time: of one.
    flops, bytes: of all.  kernel_time_total: of kernels themselves; of a named block, the time of the kernels recorded
    in it, wherever they ran.  input_shapes: of the first.  where: the lines of all.
    """

    def __init__(self, first: Event) -> None:
        self.key, self.kind, self.input_shapes = first.key, first.kind, first.input_shapes
        self.count = self.flops = self.bytes = 0
        self.cpu_time_total = self.self_cpu_time_total = self.kernel_time_total = 0.0
        self.where: dict[Place, None] = {}

    def add(self, e: Event) -> None:
        """Take one more event in."""
        self.count += 1
        outer = e.cpu_parent
        while outer is not None and outer.name != e.name:
            outer = outer.cpu_parent
        if outer is None:  # a block inside one of the same name is counted already
            self.cpu_time_total += e.cpu_time_total
        self.self_cpu_time_total += e.self_cpu_time_total
        self.flops += e.flops
        self.bytes += e.bytes
        if e.kind in WORK:
            self.kernel_time_total += e.cpu_time_total
        self.where.update(dict.fromkeys(e.where))

    @property
    def name(self) -> str:
        return self.key

    @property
    def cpu_time(self) -> float:
        return self.cpu_time_total / self.count if self.count else 0.0

    def __repr__(self) -> str:
        return (
            f"<Average {self.key!r}: {self.count} events, self {_time(self.self_cpu_time_total)}, "
            f"total {_time(self.cpu_time_total)}>"
        )


class EventList(list):
    """Events in order; `key_averages()` puts them together, `table()` prints that."""

    def key_averages(self, group_by_input_shapes: bool = False, group_by_stack_n: int = 0) -> Averages:
        """Events of one name together, on demand also apart by shapes, and by lines."""
        found: dict[Any, Average] = {}
        inside: dict[str, float] = {}
        for e in self:
            key: tuple = (e.key, e.kind)
            if group_by_input_shapes:
                key += (e.inputs,)
            if group_by_stack_n:
                key += (e.where[:group_by_stack_n],)
            if key not in found:
                found[key] = Average(e)
            found[key].add(e)
            if e.kind in WORK:
                for name in e.scopes:
                    inside[name] = inside.get(name, 0.0) + e.cpu_time_total
        for row in found.values():
            if row.kind in BLOCKS:
                row.kernel_time_total = inside.get(row.key, 0.0)
        return Averages(found.values(), bool(group_by_input_shapes), group_by_stack_n)

    def total_average(self) -> Average:
        """One row of everything."""
        return _total(list(self.key_averages()))

    def table(self, **options: Any) -> str:
        """`key_averages().table(...)`."""
        return self.key_averages().table(**options)


class Averages(list):
    """Rows of one key each. Prints as a table."""

    def __init__(self, rows: Any = (), shapes: bool = False, lines: int = 0) -> None:
        super().__init__(rows)
        self.shapes, self.lines = shapes, lines

    def __repr__(self) -> str:
        return self.table()

    def total_average(self) -> Average:
        """One row of everything."""
        return _total(self)

    def table(
        self,
        sort_by: str | None = None,
        row_limit: int = 100,
        max_src_column_width: int = 75,
        max_name_column_width: int = 55,
        max_shapes_column_width: int = 80,
        header: str | None = None,
        top_level_events_only: bool = False,
    ) -> str:
        """The rows as text, sorted downwards by one of the names in `SORTS`, at most `row_limit` (-1: all).

        GFLOP/s and GB/s are those of kernels alone. ValueError for another `sort_by`.

        >>> import adjoint as torch
        >>> with torch.profiler.profile() as prof:
        ...     y = torch.ones(10_000).exp().sum().item()
        >>> prof.key_averages().table(sort_by="foo")
        Traceback (most recent call last):
        ...
        ValueError: table(sort_by='foo'): expected one of self_cpu_time_total, ...
        """
        rows = list(self)
        if sort_by is not None:
            if sort_by not in SORTS:
                more = "; everything runs on the CPU" if "cuda" in sort_by or "device" in sort_by else ""
                raise ValueError(f"table(sort_by={sort_by!r}): expected one of {', '.join(SORTS)}{more}")
            rows.sort(key=lambda r: getattr(r, sort_by), reverse=sort_by not in ("key", "name"))
        total = sum(r.self_cpu_time_total for r in rows)
        shown = rows if row_limit < 0 else rows[:row_limit]
        names = ["Name", "Self CPU %", "Self CPU", "CPU total", "CPU time avg", "# of Calls", "Kernel time", "GFLOP/s", "GB/s"]
        names += ["Input Shapes"] * self.shapes + ["Source Location"] * bool(self.lines)
        lines = []
        for r in shown:
            cells = [_cut(r.key, max_name_column_width), f"{100 * r.self_cpu_time_total / total if total else 0:.2f}%"]
            cells += [_time(r.self_cpu_time_total), _time(r.cpu_time_total), _time(r.cpu_time), str(r.count)]
            cells += [_time(r.kernel_time_total) if r.kernel_time_total else "-"]
            cells += [_rate(r.flops, r), _rate(r.bytes, r)]
            cells += [_cut(str(r.input_shapes), max_shapes_column_width)] * self.shapes
            if self.lines:
                cells.append(_cut(", ".join(place(w) for w in list(r.where)[: self.lines]) or "-", max_src_column_width))
            lines.append(cells)
        parts = [header] if header else []
        parts.append(columns(names, lines, left=(0, *range(9, len(names)))))
        if len(shown) < len(rows):
            parts.append(f"{len(rows) - len(shown)} more rows")
        parts.append(f"Self CPU time total: {_time(total)}")
        return "\n".join(parts) + "\n"


def _total(rows: Sequence[Average]) -> Average:
    out = Average(Event("Total", "total", 0, 0, 0))
    for r in rows:
        out.count += r.count
        out.flops += r.flops
        out.bytes += r.bytes
        out.self_cpu_time_total += r.self_cpu_time_total
        out.kernel_time_total += r.kernel_time_total if r.kind in WORK else 0.0
    out.cpu_time_total = out.self_cpu_time_total
    return out


def columns(names: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """A table with a head between two rules; the columns `left` begin at their left edge, the others end at their right."""
    widths = [max(len(r[k]) for r in (names, *rows)) for k in range(len(names))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if k in left else c.rjust(w) for k, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "  ".join(padded).rstrip()

    rule = "  ".join("-" * w for w in widths)
    return "\n".join([rule, line(names), rule, *map(line, rows), rule])


def place(where: Place, short: bool = True) -> str:
    """`file:line (function)`."""
    file = where[0].replace("\\", "/").rsplit("/", 1)[-1] if short else where[0]
    return f"{file}:{where[1]}" + (f" ({where[2]})" if where[2] != "<module>" else "")


def _time(us: float) -> str:
    if us >= 1e6:
        return f"{us / 1e6:.3f}s"
    return f"{us / 1e3:.3f}ms" if us >= 1e3 else f"{us:.3f}us"


def _rate(amount: int, row: Average) -> str:
    if row.kind not in WORK or not amount or not row.kernel_time_total:
        return "-"
    rate = amount / row.kernel_time_total / 1e3
    return f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 3)] + "..."
