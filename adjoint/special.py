"""`torch.special`: special functions.

>>> import adjoint as torch
>>> torch.special.expit(torch.tensor([0.]))
tensor([0.5000])
"""

from adjoint.ops.elementwise import functions, logit, xlogy
from adjoint.ops.error_functions import erfcx, log_ndtr, ndtri
from adjoint.ops.reduce import logsumexp
from adjoint.ops.special import entr, i0, i0e, i1, i1e, ndtr, polygamma, sinc, trigamma, xlog1py
from adjoint.trace.arguments import checked as _checked

entr, sinc, trigamma, logit, xlogy, logsumexp = (_checked(f) for f in (entr, sinc, trigamma, logit, xlogy, logsumexp))
i0, i0e, i1, i1e, ndtr, polygamma, xlog1py = (_checked(f) for f in (i0, i0e, i1, i1e, ndtr, polygamma, xlog1py))
erfcx, log_ndtr, ndtri = (_checked(f) for f in (erfcx, log_ndtr, ndtri))
expit, erf, erfc, erfinv = (functions[n] for n in ("sigmoid", "erf", "erfc", "erfinv"))
gammaln, digamma, log1p, expm1, exp2 = (functions[n] for n in ("lgamma", "digamma", "log1p", "expm1", "exp2"))
psi = digamma

__all__ = [
    "digamma", "entr", "erf", "erfc", "erfcx", "erfinv", "exp2", "expit", "expm1", "gammaln", "i0", "i0e", "i1", "i1e", "log1p",
    "log_ndtr", "logit", "logsumexp", "ndtr", "ndtri", "polygamma", "psi", "sinc", "trigamma", "xlog1py", "xlogy",
]  # fmt: skip


def __getattr__(name: str) -> object:
    from adjoint.absent import absent

    raise absent(__name__, name, globals())
