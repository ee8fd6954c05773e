"""Where operands lie: whose memory products, convolutions, attention and orders read, and with which strides.

Kernels of their own read operands in place, through chains of movements as far as strides can say where they lead. `LAYOUTS` has
for each primitive with such kernels what it reads; `layout_of` follows a chain.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from adjoint.ir.graph import Node
from adjoint.schedule.expr import merged_axes

INLINE_CAT = 4096


def layout_of(
    node: Node, stop: Node | None = None, parts: bool = False, turned: bool = False
) -> tuple[Node, tuple[int, ...], int] | None:
    """The node whose memory a chain of movements down to `stop` reads, with element strides and where it begins.

    parts: whether slices at known places are among them.  turned: whether axes in the other direction are.  None where it cannot
    be read in place.
    """
    chain = []
    seen_through = (*_IN_PLACE, "flip") if turned and node.size else _IN_PLACE
    while node is not stop and (node.prim.name in seen_through or (parts and _is_part(node, seen_through))):
        chain.append(node)
        node = node.args[0]
    strides: list[int] = list(_contiguous(node.shape))
    shape, offset = node.shape, 0
    for step in reversed(chain):
        if step.prim.name == "slice":
            starts, _, steps = step.attrs
            offset += sum(s * start for s, start in zip(strides, starts, strict=True))
            strides = [s * k for s, k in zip(strides, steps, strict=True)]
        elif step.prim.name == "flip":
            offset += sum([strides[axis] * (shape[axis] - 1) for axis in step.attrs])
            strides = [-s if axis in step.attrs else s for axis, s in enumerate(strides)]
        elif step.prim.name == "permute":
            strides = [strides[p] for p in step.attrs]
        elif step.prim.name == "expand":
            lead = len(step.shape) - len(shape)
            strides = [0] * lead + [
                0 if n == 1 and m != 1 else s
                for n, m, s in zip(shape, step.shape[lead:], strides, strict=True)
            ]
        else:
            moved = _reshape_strides(shape, strides, step.shape)
            if moved is None:
                return None
            strides = moved
        shape = step.shape
    return node, tuple(strides), offset


_IN_PLACE = ("permute", "expand", "reshape")
_MOST_BESIDE = 4  # times the size of a part: of something larger that is not in memory anyway, only the part is


def _is_part(node: Node, seen_through: tuple[str, ...]) -> bool:
    """Whether a node is a slice that is read where it lies."""
    if node.prim.name != "slice" or None in node.attrs[0]:
        return False
    source = node.args[0]
    while source.prim.name in seen_through or source.prim.name == "slice":
        source = source.args[0]
    return source.prim.name == "input" or source.prim.name in LAYOUTS or source.size <= _MOST_BESIDE * node.size


def _contiguous(shape: tuple[int, ...]) -> list[int]:
    return (
        list(itertools.accumulate(reversed(shape[1:]), lambda a, b: a * b, initial=1))[::-1]
        if shape
        else []
    )


def _reshape_strides(
    old: tuple[int, ...], strides: list[int], new: tuple[int, ...]
) -> list[int] | None:
    """Strides after a reshape without copying, as in NumPy; None where a copy is needed."""
    kept = [(n, s) for n, s in zip(old, strides, strict=True) if n != 1]
    out: list[int] = []
    i = 0
    j = 0
    while j < len(new):
        if new[j] == 1:
            out.append(0)
            j += 1
            continue
        if i == len(kept):
            return None
        have, want, end, first = kept[i][0], new[j], i + 1, j
        j += 1
        while have != want:
            if have < want:
                if end == len(kept):
                    return None
                have *= kept[end][0]
                end += 1
            else:
                if j == len(new):
                    return None
                want *= new[j]
                j += 1
        for a in range(i, end - 1):
            if kept[a][1] != kept[a + 1][1] * kept[a + 1][0]:
                return None
        step = kept[end - 1][1]
        run = []
        for n in reversed(new[first:j]):
            run.append(step)
            step *= n
        out += reversed(run)
        i = end
    return out


def product_layouts(node: Node) -> list[tuple[Node, tuple]]:
    """For each operand of a matrix product: whose memory, (batch, row, column) strides and where it begins there."""
    found = [matrix_layout(x) for x in node.args]
    if node.dtype is node.args[0].dtype:
        return found
    # Tiles are copied from contiguous rows or columns.
    return [(x, _whole(x)) if 1 not in layout[1:3] else (source, layout) for x, (source, layout) in zip(node.args, found, strict=True)]


def matrix_layout(x: Node) -> tuple[Node, tuple]:
    """Whose memory a batch of matrices is read from, its (batch, row, column) strides and where it begins there."""
    found = layout_of(x, parts=True)
    if found is not None and found[0].prim.kind == "movement" and not is_joined(found[0]):
        # windows and the like are copied anyway: then in the order in which the product reads them
        source = x
        while source.prim.name in ("permute", "expand"):
            source = source.args[0]
        found = layout_of(x, source)
    if found is None:
        return x, _whole(x)
    *batch, row, column = found[1]
    return found[0], (_batch_strides(x.shape[:-2], batch), row, column, found[2])


def _whole(x: Node) -> tuple:
    """The strides of matrices that lie in memory as they are."""
    m, n = x.shape[-2:]
    return m * n, n, 1, 0


def _batch_strides(shape: tuple[int, ...], strides: list[int]) -> int | tuple[tuple[int, int], ...]:
    """The stride from one matrix to the next; (length, stride) of as few axes as will do where there is no single one."""
    axes = merged_axes(shape, strides)
    if len(axes) > 1:
        return tuple(axes)
    return axes[0][1] if axes else 0


def is_joined(node: Node) -> bool:
    """Whether a `cat` is put together in memory, and not read through."""
    return node.prim.name == "cat" and (len(node.args) > 4 or node.size > INLINE_CAT)


def convolution_layouts(node: Node) -> list[tuple[Node, tuple[int, ...]]]:
    """For x, w and the bias: whose memory, and element strides of (image, group, ...), (group, output, ...), (channel,), and
    where it begins there, which is elsewhere than at the beginning for w alone: it may be turned around, or a part of something."""
    groups = node.attrs[-1]
    out = []
    for x, axis in zip(node.args, (1, 0, None), strict=False):
        apart = x.shape if axis is None else (*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])
        found = None
        source = x.args[0] if x.prim.name == "reshape" else x  # groups that are apart in memory may stay so
        for seen in (source, x):
            whole = layout_of(seen, parts=axis == 0, turned=axis == 0)
            strides = None if whole is None else _reshape_strides(seen.shape, list(whole[1]), apart)
            if whole is not None and strides is not None:
                found = whole[0], (*strides, whole[2])
                break
        # Rows of x are copied by vectors, a bias is read in order.
        if found is None or found[0].prim.kind == "movement" or (axis != 0 and found[1][-2] != 1 and apart[-1] > 1):
            found = x, (*_contiguous(apart), 0)
        out.append(found)
    return out


def _apart(x: Node, shape: tuple[int, ...], turned: bool = False) -> tuple[Node, tuple[int, ...], int] | None:
    """`layout_of` after a reshape to `shape`; axes that are apart in memory may stay so."""
    source = x.args[0] if x.prim.name == "reshape" else x
    for seen in (source, x):
        whole = layout_of(seen, parts=True, turned=turned)
        strides = None if whole is None else _reshape_strides(seen.shape, list(whole[1]), shape)
        if whole is not None and strides is not None:
            return whole[0], tuple(strides), whole[2]
    return None


def groups_beside(x: Node, groups: int) -> bool:
    """Whether the groups of a convolution's input lie side by side in memory: images with the channels last."""
    found = _apart(x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
    return found is not None and found[0].prim.kind != "movement" and groups > 1 and found[1][1] == 1


def last_layouts(node: Node) -> list[tuple[Node, tuple[int, ...]]]:
    """For x, w and the bias of a convolution with the groups last: whose memory, element strides of each axis, and where it begins."""
    out = []
    for x in node.args:
        found = layout_of(x, parts=True)
        if found is None or found[0].prim.kind == "movement" or found[1][-1] != 1 or (len(x.shape) == 1 and found[2]):
            found = x, tuple(_contiguous(x.shape)), 0
        out.append((found[0], (*found[1], found[2])))
    return out


def attention_layouts(node: Node) -> list[tuple[Node, tuple]]:
    """Matrices as for a product, but with contiguous rows (those of a mask may also be one element); the rest is contiguous."""
    out: list[tuple[Node, tuple]] = []
    forward = node.prim.name == "attention"
    for k, x in enumerate(node.args):
        if not forward and k in (4, 5):  # a number for each row
            out.append(contiguous_layout(x))
            continue
        source, strides = matrix_layout(x)
        is_mask = k == (3 if forward else 6)
        m, n = x.shape[-2:]
        if strides[2] != 1 and not (is_mask and strides[2] == 0) and n > 1:
            source, strides = x, (m * n, n, 1, 0)
        out.append((source, strides))
    return out


def contiguous_layouts(node: Node) -> list[tuple[Node, tuple[int, ...]]]:
    """For each operand: whose memory, where it lies in it as if it had been computed there."""
    return [contiguous_layout(x) for x in node.args]


def contiguous_layout(x: Node) -> tuple[Node, tuple[int, ...]]:
    found = layout_of(x)
    in_place = found is not None and math.prod(found[0].shape) == x.size and _is_contiguous(x.shape, found[1])
    return found[0] if found is not None and in_place else x, tuple(_contiguous(x.shape))


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    return all(n == 1 or a == b for n, a, b in zip(shape, strides, _contiguous(shape), strict=True))


# Primitives that have kernels of their own, which read operands where they lie.
LAYOUTS: dict[str, Callable[[Node], list]] = {
    "matmul": product_layouts,
    "convolve": convolution_layouts,
    "convolve_last": last_layouts,
    "argsort": contiguous_layouts,
    "argselect": contiguous_layouts,
    "attention": attention_layouts,
    "attention_backward": attention_layouts,
}
