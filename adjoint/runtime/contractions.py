"""From a scheduled matrix product or convolution to its kernels: shapes and strides put in order for `codegen`.

Read `product` and `convolution`.
"""

from __future__ import annotations

import math

from adjoint.codegen.conv import Problem, conv_kernel
from adjoint.codegen.gemm import Gemm, gemm_kernel
from adjoint.ir.graph import Node
from adjoint.schedule.group import Special


def multiply_adds(node: Node) -> int:
    """How many products are added up for all of a contraction's result."""
    if node.prim.name == "matmul":
        return node.size * node.args[0].shape[-1]
    return node.size * math.prod(node.args[1].shape[1:])


def product(unit: Special, vector_bytes: int) -> Gemm:
    """The kernels of a matrix product."""
    node = unit.node
    x, y = node.args
    *batch, m, k = x.shape
    (*a_layout, a_offset), (*b_layout, b_offset) = (strides for _, strides in unit.layouts)
    return gemm_kernel(
        "kernel", node.dtype.name, math.prod(batch), m, y.shape[-1], k, tuple(a_layout), tuple(b_layout),
        offsets=(a_offset, b_offset), vector_bytes=vector_bytes,
    )  # fmt: skip


def convolution(unit: Special, vector_bytes: int) -> Gemm:
    """The kernels of a convolution whose elements of x are not moved apart."""
    node = unit.node
    x, w, *bias = node.args
    strides, lo, _, _, dilations, groups = node.attrs
    problem = Problem(
        node.dtype.name, x.shape[0], groups, w.shape[1], w.shape[0] // groups, x.shape[2:], w.shape[2:], node.shape[2:],
        strides, dilations, lo, unit.layouts[0][1], unit.layouts[1][1], bool(bias),
    )  # fmt: skip
    return conv_kernel("kernel", problem, vector_bytes=vector_bytes)
