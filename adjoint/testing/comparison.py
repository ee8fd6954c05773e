"""`torch.testing.assert_close`: two values, or two collections of them, are as near as their dtypes can tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import adjoint as torch

# rtol and atol by dtype; what is not here is compared exactly.
TOLERANCES = {
    torch.float16: (1e-3, 1e-5), torch.bfloat16: (1.6e-2, 1e-5), torch.float32: (1.3e-6, 1e-5), torch.float64: (1e-7, 1e-7),
    torch.complex64: (1.3e-6, 1e-5), torch.complex128: (1e-7, 1e-7),
}  # fmt: skip
NUMBERS = (bool, int, float, complex)


def assert_close(
    actual: Any,
    expected: Any,
    *,
    allow_subclasses: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: str | Callable[[str], str] | None = None,
) -> None:
    """AssertionError unless `|actual - expected| <= atol + rtol * |expected|` in every element.

    Tensors, arrays, numbers, None, and sequences and mappings of them; both sides have the same kind. `rtol` and `atol` are
    given together or both left to the dtypes (the wider tolerance of the two). Shapes and, with `check_dtype`, dtypes
    must be equal. msg: what the error says, or a function of what it would say.

    TypeError for values that cannot be compared, ValueError for one tolerance without the other.

    >>> import adjoint as torch
    >>> torch.testing.assert_close(torch.tensor([1.0]), torch.tensor([1.0 + 1e-7]))
    >>> torch.testing.assert_close(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0]))
    Traceback (most recent call last):
    AssertionError: Tensor-likes are not close!
    <BLANKLINE>
    Mismatched elements: 1 / 2 (50.0%)
    Greatest absolute difference: 1.0 at index (1,) (up to 1e-05 allowed)
    Greatest relative difference: 0.3333333333333333 at index (1,) (up to 1.3e-06 allowed)
    """
    if (rtol is None) != (atol is None):
        missing = "rtol" if rtol is None else "atol"
        raise ValueError(f"Both 'rtol' and 'atol' must be either specified or omitted, but got no {missing}.")
    try:
        _compare(actual, expected, (), rtol, atol, equal_nan, check_dtype, check_stride, allow_subclasses)
    except AssertionError as error:
        if msg is None:
            raise
        raise AssertionError(msg(str(error)) if callable(msg) else msg) from None


def _compare(a: Any, b: Any, path: tuple, rtol: Any, atol: Any, equal_nan: bool, check_dtype: bool, check_stride: bool, subclasses: bool) -> None:
    rest = (rtol, atol, equal_nan, check_dtype, check_stride, subclasses)
    where = f"\n\nThe failure occurred for item {''.join(f'[{p!r}]' for p in path)}" if path else ""
    if a is None or b is None:
        if a is not b:
            raise AssertionError(f"None mismatch: {a} is not {b}{where}")
    elif isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if not subclasses and type(a) is not type(b):
            raise TypeError(f"assert_close(allow_subclasses=False): the types are {type(a).__name__} and {type(b).__name__}")
        _compare_tensors(a, b, where, rest)
    elif isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        _compare_tensors(torch.from_numpy(a), torch.from_numpy(b), where, rest)
    elif isinstance(a, NUMBERS + (np.number,)) and isinstance(b, NUMBERS + (np.number,)):
        if check_dtype and type(a) is not type(b):
            raise AssertionError(f"The (d)types do not match: {type(a)} != {type(b)}.{where}")
        x, y = (np.asarray(v) for v in (a, b))
        exact = x.dtype.kind not in "fc" and y.dtype.kind not in "fc"
        default = (0.0, 0.0) if exact else (1e-7, 1e-7)
        relative, absolute = (rtol, atol) if rtol is not None else default
        _compare_arrays(x, y, relative, absolute, equal_nan, "Scalars", where)
    elif isinstance(a, Mapping) and isinstance(b, Mapping):
        if a.keys() != b.keys():
            missing, more = [k for k in b if k not in a], [k for k in a if k not in b]
            raise AssertionError(
                f"The keys of the mappings do not match:\nMissing keys in the actual mapping: {missing}\n"
                f"Additional keys in the actual mapping: {more}{where}"
            )
        for key in a:
            _compare(a[key], b[key], (*path, key), *rest)
    elif _is_sequence(a) and _is_sequence(b):
        if len(a) != len(b):
            raise AssertionError(f"The length of the sequences mismatch: {len(a)} != {len(b)}{where}")
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            _compare(x, y, (*path, i), *rest)
    else:
        raise TypeError(
            f"No comparison pair was able to handle inputs of type {type(a)} and {type(b)}: make them both tensors, for example{where}"
        )


def _is_sequence(x: Any) -> bool:
    return isinstance(x, Sequence) and not isinstance(x, str | bytes)


def _compare_tensors(a: Any, b: Any, where: str, rest: tuple) -> None:
    rtol, atol, equal_nan, check_dtype, check_stride, _ = rest
    facts = [("shape", a.shape, b.shape)]
    if check_dtype:
        facts.append(("dtype", a.dtype, b.dtype))
    for name, x, y in facts:
        if x != y:
            raise AssertionError(f"The values for attribute '{name}' do not match: {x} != {y}.{where}")
    if check_stride and a.stride() != b.stride():
        raise AssertionError(f"The values for attribute 'stride()' do not match: {a.stride()} != {b.stride()}.{where}")
    if rtol is None:
        pairs = [TOLERANCES.get(t.dtype, (0.0, 0.0)) for t in (a, b)]
        rtol, atol = (max(column) for column in zip(*pairs, strict=True))
    wide = [torch.complex128 if t.dtype.is_complex else torch.float64 if t.dtype.is_floating_point else None for t in (a, b)]
    if wide[0] is not wide[1]:
        wide = [torch.complex128 if torch.complex128 in wide else torch.float64] * 2
    x, y = (t.detach().to(w).numpy() if w else t.detach().numpy() for t, w in zip((a, b), wide, strict=True))
    _compare_arrays(x, y, rtol, atol, equal_nan, "Tensor-likes" if a.dim() else "Scalars", where)


def _compare_arrays(x: Any, y: Any, rtol: float, atol: float, equal_nan: bool, what: str, where: str) -> None:
    if x.dtype.kind == "b" or y.dtype.kind == "b":
        x, y = x.astype(np.int64), y.astype(np.int64)
    if x.dtype.kind not in "fc" and y.dtype.kind not in "fc" and not (rtol or atol):
        near = x == y  # exact beyond 2^53
    else:
        with np.errstate(all="ignore"):
            near = np.isclose(x, y, rtol=rtol, atol=atol, equal_nan=equal_nan)
    if near.all():
        return
    with np.errstate(all="ignore"):
        if x.dtype.kind not in "fc":
            x, y = x.astype(object), y.astype(object)  # differences of unsigned numbers, too
        absolute = np.asarray(abs(x - y), dtype=np.float64)
        relative = absolute / np.asarray(abs(y), dtype=np.float64)
    exact = not (rtol or atol)
    allowed_a, allowed_r = ("", "") if exact else (f" (up to {atol} allowed)", f" (up to {rtol} allowed)")
    text = f"{what} are not {'equal' if exact else 'close'}!\n\n"
    if what == "Scalars":
        text += f"Expected {y.item()} but got {x.item()}.\nAbsolute difference: {absolute.item()}{allowed_a}\n"
        text += f"Relative difference: {relative.item()}{allowed_r}"
    else:
        worst = [np.where(near, -1.0, np.where(np.isnan(d), np.inf, d)) for d in (absolute, relative)]
        at = [tuple(int(i) for i in np.unravel_index(np.argmax(w), w.shape)) for w in worst]
        text += f"Mismatched elements: {(~near).sum()} / {near.size} ({(~near).sum() / near.size:.1%})\n"
        text += f"Greatest absolute difference: {absolute[at[0]]} at index {at[0]}{allowed_a}\n"
        text += f"Greatest relative difference: {relative[at[1]]} at index {at[1]}{allowed_r}"
    raise AssertionError(text + where)
