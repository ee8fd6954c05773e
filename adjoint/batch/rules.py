"""What each primitive does with a batch: one rule per row of the closed set.

A value that depends on what is mapped over carries the batch as an axis in front; the others are as they were for one
sample. `RULES[prim](call)` records the primitive for the whole batch, as ordinary operations on tensors, and returns
the result with the batch in front; so a batch has derivatives, and batches nest. Pointwise primitives share one rule
(`pointwise`). Read `Call`, then the table at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adjoint import dtypes
from adjoint.ops.elementwise import cast, where
from adjoint.trace.handle import Tensor
from adjoint.trace.lower import stays_wide
from adjoint.trace.recorder import record
from adjoint.trace.trie import Step


class Unbatched(Exception):
    """This step has no rule: the samples are computed one by one."""


class Call:
    """One step of one sample, with the operands of the batch.

    size: how many samples.  args: the operands, tensors or baked numbers.  mapped: for each whether it has the batch in
    front.
    """

    __slots__ = ("step", "size", "args", "mapped", "attrs")

    def __init__(self, step: Step, size: int, args: list[Any], mapped: list[bool]) -> None:
        self.step, self.size, self.args, self.mapped, self.attrs = step, size, args, mapped, step.attrs

    def rank(self, k: int) -> int:
        """The rank of an operand in one sample."""
        return len(shape_of(self.args[k])) - self.mapped[k]

    def front(self, k: int) -> Tensor:
        """An operand with the batch in front, repeated if it has none."""
        x = self.args[k]
        return x if self.mapped[k] else expand(x, (self.size, *shape_of(x)))

    def behind(self, k: int, lead: int) -> Tensor:
        """An operand with the batch behind its first `lead` axes."""
        x = self.front(k)
        return permute(x, (*range(1, lead + 1), 0, *range(lead + 1, len(shape_of(x)))))


def shape_of(x: Tensor) -> tuple[int, ...]:
    return tuple(x._aval.shape)


def reshape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if shape_of(x) == shape else record("reshape", (x,), shape)


def expand(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if shape_of(x) == shape else record("expand", (x,), shape)


def permute(x: Tensor, order: tuple[int, ...]) -> Tensor:
    return x if order == tuple(range(len(order))) else record("permute", (x,), order)


def aligned(x: Tensor, rank: int) -> Tensor:
    """A batch of values as a batch of values of a higher rank, as broadcasting aligns them: from the right."""
    size, *shape = shape_of(x)
    return reshape(x, (size, *(1,) * (rank - len(shape)), *shape))


def shifted(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([a + 1 for a in axes])


# --- pointwise, creation ------------------------------------------------------------------------------------------------


def pointwise(call: Call) -> Tensor:
    """Ranks are aligned, and operands meet in the dtype in which those of one sample met: there a tensor may have been
    0-d, which counts less in promotion."""
    step, rank, compute = call.step, len(call.step.aval.shape), call.step.compute
    if compute is None:  # a cast
        return record(step.prim, (aligned(call.args[0], rank),), call.attrs)
    given, wide = [], False
    for k, x in enumerate(call.args):
        if isinstance(x, Tensor) and not (step.prim == "where" and k == 0):
            if x._aval.dtype is not compute:
                exact = compute.is_half and call.rank(k) == 0 and stays_wide(step.prim, k)
                wide = wide or exact
                x = x if exact else cast(x, compute)
        given.append(aligned(x, rank) if call.mapped[k] else x)
    if wide:
        given = [cast(x, dtypes.float32) if isinstance(x, Tensor) else x for x in given]
    out = record(step.prim, tuple(given), call.attrs)
    return cast(out, step.aval.dtype)


def full(call: Call) -> Tensor:
    shape, dtype = call.attrs
    return expand(aligned(cast(call.args[0], dtype), len(shape)), (call.size, *shape))


# --- movement -----------------------------------------------------------------------------------------------------------


def expanded(call: Call) -> Tensor:
    return expand(aligned(call.args[0], len(call.attrs)), (call.size, *call.attrs))


def cut(call: Call) -> Tensor:
    """A slice. Where it starts in each sample may differ: then along that axis it is a gather."""
    starts, sizes, steps = call.attrs
    x, batched = call.args[0], call.mapped[0]
    own, fixed, dynamic = _starts(call, starts, 1)
    shape = shape_of(x)[batched:]
    first = [0 if d in own else s for d, s in enumerate(fixed)]
    lengths = [shape[d] if d in own else n for d, n in enumerate(sizes)]
    strides = [1 if d in own else k for d, k in enumerate(steps)]
    lead = ((0,), (call.size,), (1,)) if batched else ((), (), ())
    if not own or lengths != list(shape) or any(s != 0 for s in first):
        x = record("slice", (x, *dynamic), ((*lead[0], *first), (*lead[1], *lengths), (*lead[2], *strides)))
    for d, start in own.items():
        index = _progression(start, sizes[d], steps[d])
        x = along(x, d + 1, index) if batched else _rows(x, d, index)
        batched = True
    return x


def _rows(x: Tensor, axis: int, index: Tensor) -> Tensor:
    """x[..., index[b, j], ...] for every sample b of one tensor for all, the index on the axis."""
    rank = len(shape_of(x))
    out = record("take", (permute(x, (axis, *[d for d in range(rank) if d != axis])), index))
    order = [d + 2 if d < axis else d + 1 for d in range(rank)]
    order[axis] = 1
    return permute(out, (0, *order))


def _starts(call: Call, starts: tuple, first: int) -> tuple[dict[int, Tensor], tuple, list[Any]]:
    """The starts that differ between samples, by axis; the others as an attribute, None for run-time ones; and those."""
    own, fixed, dynamic = {}, [], []
    k = first
    for d, s in enumerate(starts):
        if s is None:
            if call.mapped[k]:
                own[d] = call.args[k]
            else:
                dynamic.append(call.args[k])
            k += 1
        fixed.append(s)
    return own, tuple(fixed), dynamic


def _progression(start: Tensor, count: int, step: int) -> Tensor:
    """start, start + step, ... for each sample: (size, count)."""
    return reshape(start, (*shape_of(start), 1)) + record("iota", (), count) * step


def along(x: Tensor, axis: int, index: Tensor) -> Tensor:
    """x[b, ..., index[b, j], ...] for every sample b, the index on the axis; positions count from the front."""
    size, count = shape_of(index)
    order = (0, axis, *[d for d in range(1, len(shape_of(x))) if d != axis])
    moved = permute(x, order)
    _, n, *rest = shape_of(moved)
    rows = reshape(moved, (size * n, *rest))
    out = record("take", (rows, index + _offsets(size, n, 1)))
    back = [0] * len(order)
    for place, d in enumerate(order):
        back[d] = place
    return permute(out, tuple(back))


def _offsets(size: int, n: int, rank: int) -> Tensor:
    """Where the n rows of each sample begin, if those of all are counted together."""
    return reshape(record("iota", (), size) * n, (size, *(1,) * rank))


def _spread_along(x: Tensor, axis: int, length: int, start: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Elements at start, start + step, ... of an axis of that length: (any element elsewhere; where they are)."""
    rank, count = len(shape_of(x)), shape_of(x)[axis]
    before = record("iota", (), length) - reshape(start, (*shape_of(start), 1))
    inside = (before >= 0) & (before < count * step)
    if step > 1:
        inside = inside & (before % step == 0)
    there = reshape(inside, tuple([shape_of(inside)[0] if d == 0 else length if d == axis else 1 for d in range(rank)]))
    if count == 1:
        return x, there
    return along(x, axis, where(inside, record("floor_div", (before, step)), 0)), there


def placed(call: Call) -> Tensor:
    """Zeros with the operand written at starts: where these differ, along that axis each element looks where it comes from."""
    shape, starts, steps = call.attrs
    x = call.front(0)
    sizes = shape_of(x)[1:]
    own, fixed, dynamic = _starts(call, starts, 1)
    for d, start in own.items():
        if sizes[d] == 0:
            raise Unbatched
        x, there = _spread_along(x, d + 1, shape[d], start, steps[d])
        x = where(there, x, False if x._aval.dtype is dtypes.bool else 0)
    first = (0, *[0 if d in own else s for d, s in enumerate(fixed)])
    return record("place", (x, *dynamic), ((call.size, *shape), first, (1, *[1 if d in own else k for d, k in enumerate(steps)])))


def updated(call: Call) -> Tensor:
    """A part of the first operand replaced by the second."""
    starts, steps = call.attrs
    x, value = call.front(0), call.front(1)
    own, fixed, dynamic = _starts(call, starts, 2)
    if not own:
        return record("slice_update", (x, value, *dynamic), ((0, *fixed), (1, *steps)))
    shape, sizes = shape_of(x), shape_of(value)
    if 0 in sizes:
        return x
    written: Any = None
    for d, start in own.items():
        value, there = _spread_along(value, d + 1, shape[d + 1], start, steps[d])
        value = expand(value, tuple([shape[d + 1] if a == d + 1 else n for a, n in enumerate(shape_of(value))]))
        written = there if written is None else written & there
    # what stays of the old values on the other axes: the part is cut out, changed and written back
    first = (0, *[0 if d in own else s for d, s in enumerate(fixed)])
    stride = (1, *[1 if d in own else k for d, k in enumerate(steps)])
    old = record("slice", (x, *dynamic), (first, shape_of(value), stride))
    return record("slice_update", (x, where(written, value, old), *dynamic), (first, stride))


def joined(call: Call) -> Tensor:
    return record("cat", tuple([call.front(k) for k in range(len(call.args))]), call.attrs + 1)


# --- products -----------------------------------------------------------------------------------------------------------


def product(call: Call) -> Tensor:
    """A batch is one more batch axis; or, where one operand is the same matrix for all, more rows of the other."""
    (a, b), (left, right) = call.args, call.mapped
    if left and right or call.rank(0) > 2:
        return record("matmul", (call.front(0), call.front(1)))
    if left:
        size, m, k = shape_of(a)
        out = record("matmul", (reshape(a, (size * m, k)), b))
        return reshape(out, (size, m, shape_of(b)[1]))
    size, k, n = shape_of(b)
    turned = permute(a, (1, 0))
    rows = reshape(b, (size, k)) if n == 1 else reshape(permute(b, (0, 2, 1)), (size * n, k))
    out = reshape(record("matmul", (rows, turned)), (size, n, shape_of(a)[0]))
    return reshape(out, (size, shape_of(a)[0], n)) if n == 1 else permute(out, (0, 2, 1))


def convolved(call: Call) -> Tensor:
    """Samples are more images; where weights differ, more groups."""
    size, (strides, lo, hi, steps, dilations, groups) = call.size, call.attrs
    x, w, *bias = call.args
    if bias:
        if not any(call.mapped[:2]):
            out = record("convolve", (x, w), call.attrs)
        else:
            out = convolved(Call(call.step, size, call.args[:2], call.mapped[:2]))
        b = reshape(bias[0], (*shape_of(bias[0]), *(1,) * len(strides)))
        return out + (reshape(b, (size, 1, *shape_of(b)[1:])) if call.mapped[2] else b)
    if not call.mapped[1]:
        n, *image = shape_of(x)[1:]
        out = record("convolve", (reshape(x, (size * n, *image)), w), call.attrs)
        return reshape(out, (size, n, *shape_of(out)[1:]))
    outputs, *kernel = shape_of(w)[1:]
    w = reshape(w, (size * outputs, *kernel))
    if call.mapped[0] or groups > 1:  # (samples, images, channels) as (images, samples * channels)
        x = call.behind(0, 1)
        n, _, channels, *lengths = shape_of(x)
        x, groups = reshape(x, (n, size * channels, *lengths)), size * groups
    out = record("convolve", (x, w), (strides, lo, hi, steps, dilations, groups))
    n, _, *positions = shape_of(out)
    return permute(reshape(out, (n, size, outputs, *positions)), (1, 0, *range(2, 3 + len(positions))))


def solved(call: Call) -> Tensor:
    return record("solve", (call.front(0), call.front(1)))


# --- indices ------------------------------------------------------------------------------------------------------------


def _counted_together(index: Tensor, n: int) -> Tensor:
    """Positions in the n rows of each sample as positions in the rows of all."""
    checked = record("position", (index,), (n, True, 0))
    return checked + _offsets(shape_of(index)[0], n, len(shape_of(index)) - 1)


def taken(call: Call) -> Tensor:
    x, index = call.args
    if not call.mapped[0]:
        return record("take", (x, index))
    if call.mapped[1]:
        size, n, *rest = shape_of(x)
        return record("take", (reshape(x, (size * n, *rest)), _counted_together(index, n)))
    out = record("take", (call.behind(0, 1), index))
    lead = len(shape_of(index))
    return permute(out, (lead, *[d for d in range(len(shape_of(out))) if d != lead]))


def put_added(call: Call) -> Tensor:
    index, n = call.args[0], call.attrs
    if call.mapped[0]:
        out = record("put_add", (_counted_together(index, n), call.front(1)), call.size * n)
        return reshape(out, (call.size, n, *shape_of(out)[1:]))
    out = record("put_add", (index, call.behind(1, len(shape_of(index)))), n)
    return permute(out, (1, 0, *range(2, len(shape_of(out)))))


def put(call: Call) -> Tensor:
    """Values written or folded in at an index."""
    index, attrs = call.args[1], call.attrs
    n, *rest = shape_of(call.front(0))[1:]
    shape = shape_of(index)[call.mapped[1] :]
    values = reshape(call.front(2), (call.size, *shape, *rest))
    if call.mapped[1]:
        rows = reshape(call.front(0), (call.size * n, *rest))
        out = record(call.step.prim, (rows, _counted_together(index, n), values), attrs)
        return reshape(out, (call.size, n, *rest))
    turned = permute(values, (*range(1, len(shape) + 1), 0, *range(len(shape) + 1, len(shape_of(values)))))
    out = record(call.step.prim, (call.behind(0, 1), index, turned), attrs)
    return permute(out, (1, 0, *range(2, len(shape_of(out)))))


def attended(call: Call) -> Any:
    """Attention, whose operands may have any number of axes in front."""
    return record(call.step.prim, tuple([call.front(k) for k in range(len(call.args))]), call.attrs)


# --- the table ----------------------------------------------------------------------------------------------------------


def unchanged(call: Call) -> Any:
    """What works on the last axes, or on every element."""
    return record(call.step.prim, (call.args[0],), call.attrs)


def at_axis(call: Call) -> Tensor:
    operands = [call.front(k) for k in range(len(call.args))]
    return record(call.step.prim, tuple(operands), call.attrs + 1)


def at_axes(call: Call) -> Tensor:
    return record(call.step.prim, (call.args[0],), shifted(call.attrs))


def at_given(call: Call) -> Tensor:
    axes, *rest = call.attrs
    return record(call.step.prim, (call.args[0],), (shifted(axes), *rest))


def at_first(call: Call) -> Tensor:
    axis, *rest = call.attrs
    return record(call.step.prim, (call.args[0],), (axis + 1, *rest))


def refused(call: Call) -> Tensor:
    raise Unbatched


RULES: dict[str, Callable[[Call], Any]] = {
    "full": full,
    "random_bits": refused,  # of a seed that differs between samples
    "expand": expanded,
    "reshape": lambda call: reshape(call.args[0], (call.size, *call.attrs)),
    "permute": lambda call: permute(call.args[0], (0, *shifted(call.attrs))),
    "slice": cut,
    "place": placed,
    "slice_update": updated,
    "cat": joined,
    "matmul": product,
    "convolve": convolved,
    "attention": attended,
    "attention_backward": attended,
    "solve": solved,
    "take": taken,
    "put_add": put_added,
    "put": put,
    "put_fold": put,
    **dict.fromkeys("flip sum prod amax amin".split(), at_axes),
    **dict.fromkeys("argmax argmin cumsum cumprod cummax cummin recurrence".split(), at_axis),
    **dict.fromkeys("argsort argselect rfft irfft".split(), at_first),
    **dict.fromkeys("window fft".split(), at_given),
    **dict.fromkeys("as_real as_complex pick position".split(), unchanged),
    **dict.fromkeys("inv cholesky det slogdet qr lu row_order reinterpret eigh eig svd".split(), unchanged),
}

