"""Records of complex operators, as functions of real and imaginary parts.

Operands and results are pairs of real tensors put together and taken apart inside `call`, so that every generated test
(values, modes, numeric derivatives of both orders) is one of complex numbers: a gradient by the parts is the gradient
by the complex number.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from adjoint.testing.operators.record import Draw, OpRecord, Sample, fails, sample


def _parts_of(value: Any) -> Any:
    return np.stack([value.real, value.imag], -1) if np.iscomplexobj(value) else value


def _one(draw: Draw) -> Iterator[Sample]:
    for shape in ((), (0,), (3,), (2, 3)):
        yield sample(draw(*shape), draw(*shape))


def _two(draw: Draw) -> Iterator[Sample]:
    for a, b in (((), ()), ((3,), ()), ((2, 1), (1, 3)), ((4,), (4,))):
        yield sample(draw(*a), draw(*a), draw(*b), draw(*b))


def _matrices(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 2), draw(2, 2), draw(2, 1), draw(2, 1))


def _signals(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(1, 1, 3), draw(1, 1, 3), draw(1, 1, 2), draw(1, 1, 2))


def _square(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 2), draw(2, 2))


def _wide(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4), draw(2, 4))


def _row(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4), draw(4))


def _real_result(torch: Any, out: Any) -> Any:
    if not out.is_complex():
        return out
    out = out.resolve_conj()
    return torch.stack([out.real, out.imag], -1)


def _of_one(name: str, function: Callable, reference: Callable, samples: Callable = _one, **more: Any) -> OpRecord:
    """function(torch, z) and what NumPy says of it."""
    return OpRecord(
        name, samples, lambda a, b: _parts_of(reference(a + 1j * b)),
        lambda torch, a, b: _real_result(torch, function(torch, torch.complex(a, b))),
        domain=(0.2, 1.4), rtol=(3e-5, 1e-12), any_layout=False, halves=False, **more,
    )  # fmt: skip


def _of_two(name: str, function: Callable, reference: Callable, samples: Callable = _two, **more: Any) -> OpRecord:
    return OpRecord(
        name, samples, lambda a, b, c, d: _parts_of(reference(a + 1j * b, c + 1j * d)),
        lambda torch, a, b, c, d: _real_result(torch, function(torch, torch.complex(a, b), torch.complex(c, d))),
        domain=(0.2, 1.4), rtol=(3e-5, 1e-12), any_layout=False, halves=False, **more,
    )  # fmt: skip


def _function(name: str) -> Callable:
    return lambda torch, z: getattr(torch, name)(z)


def _set_parts(torch: Any, z: Any) -> Any:
    """Writing through the views of the parts."""
    w = z * 1
    w.real[..., :1].mul_(3)
    w.imag.add_(w.real)
    torch.view_as_real(w)[..., 1].mul_(2)
    return w


def _set_parts_numpy(z: np.ndarray) -> np.ndarray:
    re, im = z.real.copy(), z.imag.copy()
    re[..., :1] *= 3
    return re + 1j * (2 * (im + re))


NUMPY: dict[str, Callable] = {
    "neg": np.negative, "abs": np.abs, "sqrt": np.sqrt, "rsqrt": lambda z: 1 / np.sqrt(z), "exp": np.exp,
    "exp2": lambda z: 2.0**z, "expm1": np.expm1, "log": np.log, "log2": np.log2, "log10": np.log10, "log1p": np.log1p,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)), "reciprocal": lambda z: 1 / z, "square": lambda z: z * z,
    "sgn": lambda z: z / np.abs(z), "angle": np.angle, "conj": np.conj, "real": np.real, "imag": np.imag,
    "conj_physical": np.conj, "resolve_conj": np.array,
}  # fmt: skip

PARTS = (
    OpRecord("complex", _one, lambda a, b: _parts_of(a + 1j * b), lambda torch, a, b: _real_result(torch, torch.complex(a, b)), exact=True, halves=False,
             errors=(fails(RuntimeError, "Float or Double", np.ones(2, "int64"), np.ones(2, "int64")), fails(RuntimeError, "second argument", np.ones(2), np.ones(2, "float32"))),
             covers=("cfloat", "cdouble")),
    OpRecord("polar", _one, lambda a, b: _parts_of(a * np.exp(1j * b)), lambda torch, a, b: _real_result(torch, torch.polar(a, b)), domain=(0.1, 1.5), halves=False),
    _of_one("view_as_real", lambda torch, z: torch.view_as_real(z) * 2, lambda z: _parts_of(2 * z)),
    _of_one("view_as_real_copy", lambda torch, z: torch.view_as_real_copy(z) * 2, lambda z: _parts_of(2 * z)),
    OpRecord("view_as_complex_copy", lambda draw: (sample(draw(*s, 2)) for s in ((3,), (2, 3))), lambda x: (x[..., 0], x[..., 1]),
             lambda torch, x: (torch.view_as_complex_copy(x).real, torch.view_as_complex_copy(x).imag), exact=True, halves=False, any_layout=False,
             torch="has no derivative of this one"),
    OpRecord("view_as_complex", lambda draw: (sample(draw(*s, 2)) for s in ((), (3,), (2, 3))), lambda x: (x[..., 0], x[..., 1]),
             lambda torch, x: (torch.view_as_complex(x).real, torch.view_as_complex(x).imag), exact=True, halves=False, any_layout=False),
    _of_one("complex_sum", lambda torch, z: z.sum() * z, lambda z: z.sum() * z),
    _of_one("complex_mean", lambda torch, z: z.mean(), np.mean, _row),
    _of_one("complex_var", lambda torch, z: z.var(), lambda z: np.var(z, ddof=1), _row),
    _of_one("complex_norm", lambda torch, z: z.norm(), np.linalg.norm, _row),
    _of_one("complex_prod", lambda torch, z: z.prod(), np.prod, _row),
    _of_one("complex_cumsum", lambda torch, z: z.cumsum(0), np.cumsum, _row),
    _of_one("complex_cumprod", lambda torch, z: z.cumprod(0), np.cumprod, _row),
    _of_one("complex_indexed", lambda torch, z: z[torch.tensor([2, 0, 2])] * z[1:], lambda z: z[[2, 0, 2]] * z[1:], _row),
    _of_one("complex_moved", lambda torch, z: torch.cat([z.flip(0), z]).reshape(2, 4).T * z[:2], lambda z: np.concatenate([z[::-1], z]).reshape(2, 4).T * z[:2], _row),
    _of_one("complex_parts_in_place", _set_parts, _set_parts_numpy, _row),
    _of_one("complex_to_real", lambda torch, z: z.to(z.real.dtype) * z, lambda z: z.real * z, _row),
    _of_one("complex_numbers_with", lambda torch, z: (2j - z) / (z * (1 + 2j) + 3) + z * 0.5, lambda z: (2j - z) / (z * (1 + 2j) + 3) + z * 0.5),
    _of_one("complex_pow_number", lambda torch, z: z**3 + z**-2 + z**2.5 + 2.0**z, lambda z: z**3 + z**-2 + z**2.5 + 2.0**z),
    _of_one("complex_float_power", lambda torch, z: torch.float_power(z, 3) + torch.float_power(2, z), lambda z: z**3 + 2.0**z, dtypes=("float64",)),
    _of_one("complex_cov", lambda torch, z: torch.cov(z), np.cov, _square),
    _of_one("complex_corrcoef", lambda torch, z: torch.corrcoef(z), np.corrcoef, _wide, torch="its clamp of the parts has no gradient at 1", differentiable=False),
    _of_one("complex_where", lambda torch, z: torch.where(z.real > 0.8, z, z * 2j), lambda z: np.where(z.real > 0.8, z, z * 2j)),
    _of_one("complex_adjoint_matrix", lambda torch, z: torch.adjoint(z) @ z + z.mH * 0 + z.H, lambda z: z.conj().T @ z + z.conj().T, _square, covers=("H", "mH", "adjoint")),
    _of_one("complex_inv", lambda torch, z: torch.linalg.inv(z + 2j * torch.eye(2)), lambda z: np.linalg.inv(z + 2j * np.eye(2)), _square),
    _of_one("complex_det", lambda torch, z: torch.linalg.det(z + 2j * torch.eye(2)), lambda z: np.linalg.det(z + 2j * np.eye(2)), _square),
    _of_two("complex_solve", lambda torch, z, w: torch.linalg.solve(z + 2j * torch.eye(2), w), lambda z, w: np.linalg.solve(z + 2j * np.eye(2), w), _matrices),
    _of_two("complex_convolve", lambda torch, z, w: torch.nn.functional.conv1d(z, w), lambda z, w: np.convolve(z[0, 0], w[0, 0, ::-1], "valid")[None, None], _signals),
    _of_two("complex_matmul", lambda torch, z, w: z @ w, np.matmul, _matrices),
    _of_two("complex_eq", lambda torch, z, w: (z == w).float() + (z != z).float(), lambda z, w: np.asarray(z == w, float), differentiable=False),
    OpRecord("isreal", _one, lambda a, b: np.isreal(a + 1j * b), lambda torch, a, b: torch.isreal(torch.complex(a, b)), differentiable=False, exact=True, halves=False,
             covers=("is_complex", "is_conj", "is_neg", "resolve_neg", "__complex__")),
)  # fmt: skip
ONE = tuple(_of_one(f"complex_{name}", _function(name), reference, covers=(name,)) for name, reference in NUMPY.items())
TWO = tuple(
    _of_two(f"complex_{name}", lambda torch, z, w, f=f: f(z, w), f)
    for name, f in {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "pow": operator.pow}.items()
)

RECORDS = (*PARTS, *ONE, *TWO)
