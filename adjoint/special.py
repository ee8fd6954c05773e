"""`torch.special`: special functions.

>>> import adjoint as torch
>>> torch.special.expit(torch.tensor([0.]))
tensor([0.5000])
"""

from __future__ import annotations

from types import FunctionType as _FunctionType
from typing import Any as _Any

from adjoint.ops.bessel import (
    airy_ai,
    bessel_j0,
    bessel_j1,
    bessel_y0,
    bessel_y1,
    modified_bessel_k0,
    modified_bessel_k1,
    scaled_modified_bessel_k0,
    scaled_modified_bessel_k1,
    spherical_bessel_j0,
)
from adjoint.ops.elementwise import logit, round, xlogy
from adjoint.ops.error_functions import erfcx, log_ndtr, ndtr, ndtri
from adjoint.ops.incomplete_gamma import gammainc, gammaincc, zeta
from adjoint.ops.polynomials import functions as _polynomials
from adjoint.ops.reduce import logsumexp
from adjoint.ops.results import public as _public
from adjoint.ops.short import functions as _functions
from adjoint.ops.special import entr, i0, i0e, i1, i1e, polygamma, sinc, trigamma, xlog1py
from adjoint.ops.special import mvlgamma as multigammaln
from adjoint.trace.handle import Tensor

modified_bessel_i0, modified_bessel_i1 = i0, i1
globals().update(_polynomials)


def softmax(input: Tensor, dim: int, *, dtype: _Any = None) -> Tensor:
    """`exp(x)` along `dim`, divided by its sum; of `input` as `dtype` if that is given.

    >>> import adjoint as torch
    >>> torch.special.softmax(torch.tensor([0., 0.]), 0)
    tensor([0.5000, 0.5000])
    """
    return input.softmax(dim, dtype=dtype)  # type: ignore[attr-defined]


def log_softmax(input: Tensor, dim: int, *, dtype: _Any = None) -> Tensor:
    """The logarithm of `softmax`, without overflow.

    >>> import adjoint as torch
    >>> torch.special.log_softmax(torch.tensor([0., 0.]), 0)
    tensor([-0.6931, -0.6931])
    """
    return input.log_softmax(dim, dtype=dtype)  # type: ignore[attr-defined]


for _name, _value in list(globals().items()):
    if isinstance(_value, _FunctionType) and not _name.startswith("_"):
        globals()[_name] = _public(_value, _name, "special.")
expit, erf, erfc, erfinv = (_functions[n] for n in ("sigmoid", "erf", "erfc", "erfinv"))
gammaln, digamma, log1p, expm1, exp2 = (_functions[n] for n in ("lgamma", "digamma", "log1p", "expm1", "exp2"))
psi = digamma

__all__ = [
    *_polynomials, "airy_ai", "bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1", "gammainc", "gammaincc", "log_softmax", "modified_bessel_i0",
    "modified_bessel_i1", "modified_bessel_k0", "modified_bessel_k1", "multigammaln", "round", "scaled_modified_bessel_k0",
    "scaled_modified_bessel_k1", "softmax", "spherical_bessel_j0", "zeta",
    "digamma", "entr", "erf", "erfc", "erfcx", "erfinv", "exp2", "expit", "expm1", "gammaln", "i0", "i0e", "i1", "i1e", "log1p",
    "log_ndtr", "logit", "logsumexp", "ndtr", "ndtri", "polygamma", "psi", "sinc", "trigamma", "xlog1py", "xlogy",
]  # fmt: skip


def __getattr__(name: str) -> object:
    from adjoint.absent import absent

    raise absent(__name__, name, globals())
