"""`gradcheck`: derivatives against central differences, reverse and forward, and to second order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from adjoint.autograd.engine import grad
from adjoint.autograd.modes import no_grad
from adjoint.func import push
from adjoint.grad.walk import Forward
from adjoint.ops.complex_numbers import view_as_complex, view_as_real
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import tensor_from_array


class GradcheckError(RuntimeError):
    """A derivative differs from the difference quotient."""


def _outputs(value: Any) -> list[Tensor]:
    found = [value] if isinstance(value, Tensor) else [v for v in value if isinstance(v, Tensor)]
    return [v for v in found if v._aval.dtype.is_floating_point]


def numeric_jacobian(function: Callable, inputs: tuple, k: int, eps: float) -> list[np.ndarray]:
    """d outputs / d inputs[k] by central differences: one (input size, output size) array per output."""
    x = inputs[k]
    base = x.detach().numpy().copy()
    columns: list[list[np.ndarray]] = []
    for i in range(base.size):
        ends = []
        for sign in (1, -1):
            moved = base.copy()
            moved.reshape(-1)[i] += sign * eps
            args = [*inputs]
            args[k] = tensor_from_array(moved)
            with no_grad():
                ends.append([o.detach().numpy().astype(np.float64).copy() for o in _outputs(function(*args))])
        columns.append([(a - b).ravel() / (2 * eps) for a, b in zip(*ends, strict=True)])
    count = len(columns[0]) if columns else 0
    return [np.stack([c[o] for c in columns]) for o in range(count)]


def gradcheck(
    func: Callable,
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Compare derivatives of `func` with central differences of step `eps` (inputs should be float64 or complex128).

    A function of complex tensors is checked as one of their real and imaginary parts.

    Returns True, or raises GradcheckError (a RuntimeError) naming output, input, and the entry that differs most;
    with `raise_exception=False` returns False.

    >>> import adjoint as torch
    >>> x = torch.rand(3, dtype=torch.float64, requires_grad=True)
    >>> torch.autograd.gradcheck(lambda v: (v * v).sum(), (x,))
    True
    """
    args = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    active = [k for k, x in enumerate(args) if isinstance(x, Tensor) and x._aval.requires_grad]
    if not active:
        raise ValueError("gradcheck expects at least one input tensor to require gradient, but none of them have requires_grad=True.")
    func, args = _in_parts(func, args)
    try:
        _check(func, args, active, eps, atol, rtol, check_backward_ad, check_forward_ad)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _in_parts(func: Callable, args: tuple) -> tuple[Callable, tuple]:
    """A function of complex tensors, and its arguments, as one of real tensors with real and imaginary parts."""
    whole = [isinstance(x, Tensor) and x._aval.dtype.is_complex for x in args]

    def parts(t: Any) -> Any:
        return view_as_real(t) if isinstance(t, Tensor) and t._aval.dtype.is_complex else t

    def real_func(*values: Any) -> Any:
        out = func(*[view_as_complex(v) if c else v for v, c in zip(values, whole, strict=True)])
        return parts(out) if isinstance(out, Tensor) else tuple([parts(o) for o in out])

    def leaf(x: Any) -> Any:
        return view_as_real(x.detach()).clone().requires_grad_(x._aval.requires_grad)

    return real_func, tuple([leaf(x) if c else x for x, c in zip(args, whole, strict=True)])


def _check(func: Callable, args: tuple, active: list[int], eps: float, atol: float, rtol: float, reverse: bool, forward: bool) -> None:
    outs = _outputs(func(*args))
    by_rules = [_reverse_jacobians(out, [args[k] for k in active]) if reverse else [] for out in outs]
    for at, k in enumerate(active):
        numeric = numeric_jacobian(func, args, k, eps)
        pushed = _forward_jacobians(outs, args[k]) if forward else []
        for o, out in enumerate(outs):
            want = numeric[o] if numeric else np.zeros((0, out._aval.size))
            if reverse:
                _compare("reverse", by_rules[o][at], want, o, k, atol, rtol)
            if forward:
                _compare("forward", pushed[o], want, o, k, atol, rtol)


def _units(x: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Every element's number, with a tensor like `x` that is 1 there and 0 elsewhere."""
    for i in range(x._aval.size):
        unit = np.zeros(x._aval.shape, x._aval.dtype.np)
        unit.reshape(-1)[i] = 1
        yield i, tensor_from_array(unit)


def _reverse_jacobians(out: Tensor, inputs: list[Tensor]) -> list[np.ndarray]:
    """d out / d input by reverse mode, for all inputs at once: one (input size, output size) array per input."""
    found = [np.zeros((x._aval.size, out._aval.size)) for x in inputs]
    if out._aval.requires_grad:
        for j, unit in _units(out):
            got = grad(out, inputs, unit, retain_graph=True, allow_unused=True)
            for jacobian, g in zip(found, got, strict=True):
                if g is not None:
                    jacobian[:, j] = g.detach().numpy().ravel()
    return found


def _forward_jacobians(outs: list[Tensor], x: Tensor) -> list[np.ndarray]:
    """d outputs / d x by forward mode, for all outputs at once: one (input size, output size) array per output."""
    found = [np.zeros((x._aval.size, out._aval.size)) for out in outs]
    if outs:
        walk = Forward(outs, [x])
        for i, unit in _units(x):
            for jacobian, t in zip(found, push(walk, [x], [unit], False), strict=True):
                jacobian[i] = t.detach().numpy().ravel()
    return found


def _compare(mode: str, got: np.ndarray, want: np.ndarray, output: int, input: int, atol: float, rtol: float) -> None:
    if got.shape != want.shape:
        raise GradcheckError(f"Jacobian mismatch for output {output} with respect to input {input}: shapes {got.shape} and {want.shape}")
    wrong = ~(np.abs(got - want) <= atol + rtol * np.abs(want))
    if wrong.any():
        error = np.where(wrong, np.nan_to_num(np.abs(got - want), nan=np.inf), -1)
        i, j = np.unravel_index(int(error.argmax()), error.shape)
        raise GradcheckError(
            f"Jacobian mismatch for output {output} with respect to input {input},\nnumerical:{want}\nanalytical:{got}\n"
            f"{mode} mode; the entry that differs most is d output[{j}] / d input[{i}]: {want[i, j]} by differences, "
            f"{got[i, j]} by the rule"
        )


def gradgradcheck(
    func: Callable,
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    check_fwd_over_rev: bool = False,
    **unused: Any,
) -> bool:
    """`gradcheck` of the gradient itself, with random cotangents: second derivatives.

    >>> import adjoint as torch
    >>> x = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    >>> torch.autograd.gradgradcheck(torch.tanh, x)
    True
    """
    args = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    if grad_outputs is None:
        func, args = _in_parts(func, args)
    outs = _outputs(func(*args))
    if grad_outputs is None:
        rng = np.random.default_rng(0)
        seeds = tuple(
            tensor_from_array(np.asarray(rng.standard_normal(tuple(o._aval.shape))).astype(o._aval.dtype.np), True) for o in outs
        )
    else:
        seeds = tuple(grad_outputs) if isinstance(grad_outputs, (tuple, list)) else (grad_outputs,)
    count = len(args)
    active = [k for k, x in enumerate(args) if isinstance(x, Tensor) and x._aval.requires_grad]

    def first(*values: Any) -> tuple:
        from adjoint.autograd.modes import enable_grad

        own = [
            v if not isinstance(v, Tensor) or v._aval.requires_grad or not v._aval.dtype.is_floating_point else v.clone().requires_grad_()
            for v in values
        ]
        with enable_grad():
            results = _outputs(func(*own[:count]))
            live = [(r, s) for r, s in zip(results, own[count:], strict=True) if r._aval.requires_grad]
            got = grad([r for r, _ in live], [own[k] for k in active], [s for _, s in live], create_graph=True, materialize_grads=True)
        return tuple(g for g in got if g is not None)

    return gradcheck(
        first, (*args, *seeds), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception, check_forward_ad=check_fwd_over_rev
    )
