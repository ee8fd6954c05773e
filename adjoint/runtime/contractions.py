"""From a scheduled matrix product, convolution or order to its kernels: shapes and strides put in order for `codegen`.

`KERNELS` is the table, `operations` says how much there is to do. What few programs need is loaded by the first that does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from adjoint.codegen import gemm
from adjoint.codegen.gemm import Gemm, gemm_kernel
from adjoint.codegen.gemm_words import Epilogue, Offer
from adjoint.ir.graph import Node
from adjoint.schedule.group import Special


def operations(node: Node) -> int:
    """How many multiplications, additions and (for an order, about) moves of a record there are in all."""
    if node.prim.name == "matmul":
        return 2 * node.size * node.args[0].shape[-1]
    if node.prim.name == "convolve":
        return 2 * node.size * math.prod(node.args[1].shape[1:])
    if node.prim.name == "convolve_last":
        return 2 * node.size * math.prod(node.args[1].shape[:-1])
    if node.prim.name in ("attention", "attention_backward"):
        query, key, value = node.args[1:4] if node.prim.name == "attention_backward" else node.args[:3]
        products = (1, 1) if node.prim.name == "attention" else (3, 2)
        each = products[0] * query.shape[-1] + products[1] * value.shape[-1]
        return 2 * each * math.prod(query.shape[:-1]) * key.shape[-2] // (2 if node.attrs else 1)
    return _MOVES * node.args[0].size


_MOVES = 64  # additions for each element of an order


@lru_cache(maxsize=128)
def _kernels(make: Callable[..., Gemm], *problem: Any, **options: Any) -> Gemm:
    """What `make` writes, remembered: the layers of a model ask for the same again and again."""
    return make("kernel", *problem, **options)


def right_operand(unit: Special) -> tuple:
    """What the right operand of a matrix product is: of whose memory, and how it lies there."""
    source, layout = unit.layouts[1]
    return source, tuple(layout), unit.node.args[1].shape


def product(unit: Special, vector_bytes: int, epilogue: Epilogue | None = None, **options: Any) -> Gemm:
    """The kernels of a matrix product. epilogue: what is done with its tiles; options: as of `_problem`."""
    problem, options = _problem(unit, vector_bytes, **options)
    return _kernels(gemm_kernel, *problem, **options, epilogue=epilogue)


def takes_epilogue(unit: Special, vector_bytes: int, **options: Any) -> Offer | None:
    """What a product offers to an epilogue, or None. options: as of `_problem`."""
    problem, options = _problem(unit, vector_bytes, **options)
    return gemm.takes_epilogue(*problem, **options)


def _problem(unit: Special, vector_bytes: int, again: int = 1, tiles: bool = False, pairs: bool = False) -> tuple[tuple, dict[str, Any]]:
    """What `gemm_kernel` is asked for.

    again: how many of the program's products have the same right operand.  tiles, pairs: as `jit.Target` has them.
    """
    node = unit.node
    x, y = node.args
    *batch, m, k = x.shape
    (*a_layout, a_offset), (*b_layout, b_offset) = (strides for _, strides in unit.layouts)
    problem = x.dtype.name, math.prod(batch), m, y.shape[-1], k, tuple(a_layout), tuple(b_layout)
    return problem, {"offsets": (a_offset, b_offset), "vector_bytes": vector_bytes, "again": again, "tiles": tiles, "pairs": pairs}


def convolution(unit: Special, vector_bytes: int) -> Gemm:
    """The kernels of a convolution; elements of x are moved apart where each group is one channel, or not at all."""
    from adjoint.codegen.conv import Problem, conv_kernel
    from adjoint.codegen.winograd_plan import winograd_plan

    node = unit.node
    x, w, *bias = node.args
    strides, lo, _, steps, dilations, groups = node.attrs
    (*x_strides, _), (*w_strides, w_offset) = (layout for _, layout in unit.layouts[:2])
    problem = Problem(
        node.dtype.name, x.shape[0], groups, w.shape[1], w.shape[0] // groups, x.shape[2:], w.shape[2:], node.shape[2:],
        strides, dilations, lo, tuple(x_strides), tuple(w_strides), bool(bias), w_offset,
        steps if any(n > 1 for n in steps) else (),
    )  # fmt: skip
    plan = None if problem.steps else winograd_plan(problem, vector_bytes // problem.itemsize, 32 if vector_bytes == 64 else 16)
    if plan is None:
        return _kernels(conv_kernel, problem, vector_bytes=vector_bytes)
    from adjoint.codegen.winograd import winograd_kernel

    return _kernels(winograd_kernel, problem, plan)


def convolution_of_groups(unit: Special, vector_bytes: int) -> Gemm:
    """The kernel of a convolution with the groups last."""
    from adjoint.codegen.conv_groups import Groups, groups_kernel
    from adjoint.schedule.depthwise import Axis

    node = unit.node
    x, w, *bias = node.args
    strides, lo, _, steps, dilations = node.attrs
    axes = zip(node.shape[1:-1], x.shape[2:-1], w.shape[1:-1], strides, dilations, lo, steps, strict=True)
    (*x_strides, x_offset), (*w_strides, w_offset) = (layout for _, layout in unit.layouts[:2])
    problem = Groups(
        node.dtype.name, x.shape[0], x.shape[-1], x.shape[1], tuple([Axis(*row) for row in axes]), tuple(x_strides), tuple(w_strides),
        bool(bias), x_offset, w_offset,
    )  # fmt: skip
    return _kernels(groups_kernel, problem, vector_bytes=vector_bytes)


def order(unit: Special, vector_bytes: int) -> Gemm:
    """The kernels of an order along the last axis that has more than one element."""
    from adjoint.codegen.sort import Order, order_kernels

    node = unit.node
    x, (axis, descending, *ranks) = node.args[0], node.attrs
    n = x.shape[axis]
    start, stop = ranks or (0, n)
    problem = Order(x.dtype.name, x.size // n, n, descending, start, stop)
    return _kernels(order_kernels, problem, vector_bytes=vector_bytes)


def attention(unit: Special, vector_bytes: int) -> Gemm:
    """The kernels of attention, or of its derivative."""
    from adjoint.codegen.attention import Attention, attention_kernels
    from adjoint.codegen.attention_backward import backward_kernels

    node = unit.node
    backward = node.prim.name == "attention_backward"
    places = [layout for _, layout in unit.layouts]
    matrices = (1, 2, 3, 0) if backward else (0, 1, 2)
    mask = 6 if backward else 3
    query, key, value = (node.args[i] for i in matrices[:3])
    *batch, queries, width = query.shape
    masked = len(node.args) > mask
    problem = Attention(
        node.dtype.name, math.prod(batch), queries, key.shape[-2], width, value.shape[-1], node.attrs,
        tuple(places[i] for i in matrices), places[mask] if masked else None, node.args[mask].dtype.name if masked else None,
    )  # fmt: skip
    make = backward_kernels if backward else attention_kernels
    return _kernels(make, problem, vector_bytes=vector_bytes)


KERNELS: dict[str, Callable[[Special, int], Gemm]] = {
    "matmul": product,
    "convolve": convolution,
    "convolve_last": convolution_of_groups,
    "argsort": order,
    "argselect": order,
    "attention": attention,
    "attention_backward": attention,
}
