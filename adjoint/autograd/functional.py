"""`torch.autograd.functional`: Jacobians, Hessians and products, of functions of one or several tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adjoint import func as F
from adjoint.ops.create import ones_like
from adjoint.trace.handle import Tensor

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]


def _tuple(inputs: Any) -> tuple[bool, tuple[Tensor, ...]]:
    return (False, tuple(inputs)) if isinstance(inputs, (tuple, list)) else (True, (inputs,))


def jacobian(func: Callable, inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False, strategy: str = "reverse-mode") -> Any:
    """The Jacobian, of shape (*output shape, *input shape); nested tuples for several inputs or outputs.

    Of complex inputs each row is the gradient of one output; RuntimeError for complex outputs, unless `vectorize`.

    >>> import adjoint as torch
    >>> torch.autograd.functional.jacobian(lambda x: x * x, torch.tensor([1., 2.]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    single, args = _tuple(inputs)
    numbers: Any = 0 if single else tuple(range(len(args)))
    if strategy == "forward-mode":
        make = F.by_columns
    else:
        make = F.by_rows if vectorize else _by_rows_of_real
    out = F.jacobian(make, func, numbers)(*args)
    return out if create_graph else _cut(out)


def _by_rows_of_real(outs: list[Tensor], flat: list[Tensor], again: bool) -> list[list[Tensor]]:
    for o in outs:
        if o._aval.dtype.is_complex:
            raise RuntimeError(f"grad can be implicitly created only for real scalar outputs but got {o._aval.dtype!r}")
    return F.by_rows(outs, flat, again)


def hessian(
    func: Callable, inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False, outer_jacobian_strategy: str = "reverse-mode"
) -> Any:
    """Second derivatives of a scalar function; with "forward-mode" the gradient's columns instead of its rows are computed.

    RuntimeError if its value has more than one element.

    >>> import adjoint as torch
    >>> torch.autograd.functional.hessian(lambda x: (x**3).sum(), torch.tensor([1., 2.]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    single, args = _tuple(inputs)
    numbers: Any = 0 if single else tuple(range(len(args)))

    def scalar(*xs: Any) -> Tensor:
        value = func(*xs)
        if not isinstance(value, Tensor) or value._aval.size != 1:
            given = f"shape {list(value._aval.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise RuntimeError(f"The Tensor returned by the function given to hessian should contain a single element, not {given}; sum it, or use jacobian")
        return value.reshape(())

    outer = F.by_columns if outer_jacobian_strategy == "forward-mode" else _by_rows_of_real
    out = F.jacobian(outer, F.jacobian(_by_rows_of_real, scalar, numbers), numbers)(*args)
    return out if create_graph else _cut(out)


def vjp(func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(func(inputs), v^T J).

    >>> import adjoint as torch
    >>> torch.autograd.functional.vjp(lambda x: x * x, torch.tensor([1., 2.]), torch.ones(2))[1]
    tensor([2., 4.])
    """
    single, args = _tuple(inputs)
    out, pull = F.vjp(func, *args)
    seed = v if v is not None else ones_like(out)
    got = pull(seed)
    return _cut(out) if not create_graph else out, (got[0] if single else got)


def jvp(func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(func(inputs), J v).

    >>> import adjoint as torch
    >>> torch.autograd.functional.jvp(lambda x: x * x, torch.tensor([1., 2.]), torch.ones(2))[1]
    tensor([2., 4.])
    """
    _, args = _tuple(inputs)
    seeds = tuple(ones_like(a) for a in args) if v is None else _tuple(v)[1]
    out, tangent = F.jvp(func, args, seeds)
    return (out, tangent) if create_graph else (_cut(out), _cut(tangent))


def hvp(func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(func(inputs), H v): forward over reverse.

    >>> import adjoint as torch
    >>> torch.autograd.functional.hvp(lambda x: (x**3).sum(), torch.tensor([1., 2.]), torch.ones(2))[1]
    tensor([ 6., 12.])
    """
    single, args = _tuple(inputs)
    seeds = tuple(ones_like(a) for a in args) if v is None else _tuple(v)[1]
    numbers: Any = 0 if single else tuple(range(len(args)))
    value = func(*args)
    _, product = F.jvp(F.grad(func, numbers), args, seeds)
    return (value, product) if create_graph else (_cut(value), _cut(product))


vhp = hvp


def _cut(tree: Any) -> Any:
    return F.rebuild(tree, iter([x.detach() for x in F.leaves_of(tree)]))
