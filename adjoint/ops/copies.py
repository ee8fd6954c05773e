"""What views show, as copies: `torch.t_copy(x)` is `x.t().clone()`. Made of the functions that make views.

`FUNCTIONS` has for each name a tensor and further arguments with which it can be called; examples and tests are made of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adjoint.ops import complex_numbers, joining, shape
from adjoint.ops.results import public
from adjoint.trace.handle import Tensor

_MATRIX = "[[1., 2., 3.], [4., 5., 6.]]"
FUNCTIONS = {
    "alias detach squeeze t unbind": (_MATRIX, ""),
    "as_strided": (_MATRIX, "(2, 2), (1, 2), 1"),
    "diagonal": (_MATRIX, "1"),
    "expand": (_MATRIX, "(2, 2, 3)"),
    "permute": (_MATRIX, "(1, 0)"),
    "select": (_MATRIX, "1, 2"),
    "slice": (_MATRIX, "1, 0, 3, 2"),
    "split": (_MATRIX, "2, 1"),
    "split_with_sizes": (_MATRIX, "[1, 2], 1"),
    "transpose": (_MATRIX, "0, 1"),
    "unfold": (_MATRIX, "1, 2, 1"),
    "unsqueeze": (_MATRIX, "0"),
    "view": (_MATRIX, "(3, 2)"),
    "view_as_complex": ("[[1., 2.], [3., 4.]]", ""),
    "view_as_real": ("[1 + 2j, 3 - 1j]", ""),
}


def slice_of(input: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Tensor:
    """`input[start:end:step]` along `dim`."""
    axis = shape.axis_of(dim, len(input._aval.shape))
    return input[(slice(None),) * axis + (slice(start, end, step),)]  # type: ignore[index]


_VIEWS: dict[str, Callable[..., Any]] = {
    "alias": shape.alias_like,
    "slice": slice_of,
    "split": joining.split, "split_with_sizes": joining.split_with_sizes, "unbind": joining.unbind,
    "view_as_complex": complex_numbers.view_as_complex, "view_as_real": complex_numbers.view_as_real,
}  # fmt: skip


def functions() -> dict[str, Callable[..., Any]]:
    """All of them by name."""
    return {f"{name}_copy": _function(name, *example) for names, example in FUNCTIONS.items() for name in names.split()}


def _function(name: str, tensor: str, others: str) -> Callable[..., Any]:
    view = _VIEWS.get(name) or getattr(shape, name)

    def function(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        shown = view(input, *args, **kwargs)
        return shape.clone(shown) if isinstance(shown, Tensor) else tuple([shape.clone(part) for part in shown])

    function.__name__ = function.__qualname__ = f"{name}_copy"
    function.__doc__ = f"""A copy of what `{name}` shows: memory of its own, differentiable where the view is.

    >>> import adjoint as torch
    >>> x = torch.tensor({tensor})
    >>> copied = torch.{name}_copy({", ".join(filter(None, ("x", others)))})
    """
    return public(function, f"{name}_copy")
