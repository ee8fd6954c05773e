"""`torch.special`: special functions.

>>> import adjoint as torch
>>> torch.special.expit(torch.tensor([0.]))
tensor([0.5000])
"""

from types import FunctionType as _FunctionType

from adjoint.ops.elementwise import logit, xlogy
from adjoint.ops.error_functions import erfcx, log_ndtr, ndtri
from adjoint.ops.reduce import logsumexp
from adjoint.ops.results import public as _public
from adjoint.ops.short import functions as _functions
from adjoint.ops.special import entr, i0, i0e, i1, i1e, ndtr, polygamma, sinc, trigamma, xlog1py

for _name, _value in list(globals().items()):
    if isinstance(_value, _FunctionType) and not _name.startswith("_"):
        globals()[_name] = _public(_value, _name, "special.")
expit, erf, erfc, erfinv = (_functions[n] for n in ("sigmoid", "erf", "erfc", "erfinv"))
gammaln, digamma, log1p, expm1, exp2 = (_functions[n] for n in ("lgamma", "digamma", "log1p", "expm1", "exp2"))
psi = digamma

__all__ = [
    "digamma", "entr", "erf", "erfc", "erfcx", "erfinv", "exp2", "expit", "expm1", "gammaln", "i0", "i0e", "i1", "i1e", "log1p",
    "log_ndtr", "logit", "logsumexp", "ndtr", "ndtri", "polygamma", "psi", "sinc", "trigamma", "xlog1py", "xlogy",
]  # fmt: skip


def __getattr__(name: str) -> object:
    from adjoint.absent import absent

    raise absent(__name__, name, globals())
