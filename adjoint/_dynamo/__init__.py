"""Names of PyTorch's compiler that published programs use; `adjoint.compiler` has the ones that mean something here.

>>> import adjoint as torch
>>> torch._dynamo.is_compiling()
False
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from adjoint.compiler import (
    OptimizedModule,
    allow_in_graph,
    assume_constant_result,
    disable,
    is_compiling,
    reset,
)

__all__ = ["OptimizedModule", "allow_in_graph", "assume_constant_result", "disable", "graph_break", "is_compiling", "mark_dynamic", "mark_static", "reset"]

config = SimpleNamespace(
    cache_size_limit=8, recompile_limit=8, accumulated_cache_size_limit=256, suppress_errors=False, verbose=False, capture_scalar_outputs=False,
    capture_dynamic_output_shape_ops=False, automatic_dynamic_shapes=True, assume_static_by_default=True, optimize_ddp=False,
    force_parameter_static_shapes=True, inline_inbuilt_nn_modules=True, allow_unspec_int_on_nn_module=False,
)  # fmt: skip


class Unsupported(RuntimeError):
    """What PyTorch's compiler says of code that it cannot take. Never here."""


eval_frame = SimpleNamespace(OptimizedModule=OptimizedModule)
exc = SimpleNamespace(Unsupported=Unsupported)


def mark_dynamic(t: Any, index: Any, *, min: int | None = None, max: int | None = None) -> None:
    """Nothing: kernels serve many sizes from the second on."""


def mark_static(t: Any, index: Any = None) -> None:
    """Nothing."""


def mark_static_address(t: Any, guard: bool = True) -> None:
    """Nothing."""


def maybe_mark_dynamic(t: Any, index: Any) -> None:
    """Nothing."""


def graph_break(msg: str = "") -> None:
    """Nothing."""


def is_dynamo_supported() -> bool:
    """True."""
    return True
