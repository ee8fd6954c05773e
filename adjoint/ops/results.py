"""The keyword `out`: results in memory that the caller has.

A function that takes it computes what it computes without, and `into` writes that into `out`. No function has code of its
own for this. Most public functions do not know the keyword at all: they are wrapped to explain their failures, and the
wrapper (`trace.arguments.checked`) comes here when a call has failed that has it; so a call without it costs what it did.
The few that are not wrapped name it themselves (`ops.short`). Read `into`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

from adjoint import dtypes
from adjoint.ops import create, index, storage
from adjoint.trace.arguments import checked, shown
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import local
from adjoint.trace.state import _package
from adjoint.trace.views import check_in_place, overwrite

# The public functions for which PyTorch has `out`, by the names they are first defined under (others stand for the same).
TAKES_OUT = frozenset(
    # pointwise
    """
    round reciprocal clamp clamp_min clamp_max floor_divide logical_and logical_or logical_xor lerp addcmul addcdiv xlogy
    logaddexp logaddexp2 nan_to_num heaviside hypot copysign deg2rad rad2deg frac logit fmax fmin signbit sgn isposinf
    isneginf float_power ldexp gcd lcm nextafter frexp complex polar angle conj_physical i0 mvlgamma polygamma sinc
    hardshrink threshold softmax log_softmax
    """
    # reductions, scans, orders
    """
    prod mean var std amax amin argmax argmin max min any all cumsum cumprod cummax cummin logsumexp logcumsumexp norm
    median nanmedian aminmax nansum nanmean diff renorm sort msort topk kthvalue mode histc histogram searchsorted bucketize quantile
    nanquantile
    """
    # joining, places
    """
    cat stack hstack vstack dstack column_stack tril triu diag narrow_copy slice_scatter gather take_along_dim
    index_select take scatter scatter_add scatter_reduce index_add index_copy index_reduce masked_select nonzero isin
    """
    # copies of views
    """
    alias_copy as_strided_copy detach_copy diagonal_copy expand_copy permute_copy select_copy slice_copy split_copy split_with_sizes_copy
    squeeze_copy t_copy transpose_copy unbind_copy unfold_copy unsqueeze_copy view_as_complex_copy view_as_real_copy view_copy
    """
    # products and matrices
    """
    mm mv dot bmm outer addmm baddbmm addmv kron tensordot inner vdot addr addbmm inv cholesky qr svd slogdet
    matrix_power cross cholesky_solve cholesky_inverse chain_matmul lu_solve lu_unpack
    linalg.cholesky linalg.cholesky_ex linalg.cond linalg.cross linalg.det linalg.eig linalg.eigvals linalg.eigh linalg.eigvalsh
    linalg.householder_product linalg.inv linalg.inv_ex linalg.lstsq linalg.lu linalg.lu_factor linalg.lu_factor_ex
    linalg.lu_solve linalg.matmul linalg.matrix_norm linalg.matrix_power linalg.matrix_rank linalg.multi_dot linalg.norm
    linalg.pinv linalg.qr linalg.slogdet linalg.solve linalg.solve_ex linalg.solve_triangular linalg.svd linalg.svdvals
    linalg.tensorinv linalg.tensorsolve linalg.vecdot linalg.vector_norm
    """
    # new tensors, random numbers
    """
    zeros ones empty full eye arange range linspace logspace rand randn randint randperm normal bernoulli multinomial
    """
    # modules
    """
    fft.fft fft.fft2 fft.fftfreq fft.fftn fft.hfft fft.hfft2 fft.hfftn fft.ifft fft.ifft2 fft.ifftn fft.ihfft fft.ihfft2
    fft.ihfftn fft.irfft fft.irfft2 fft.irfftn fft.rfft fft.rfft2 fft.rfftfreq fft.rfftn
    special.entr special.erfcx special.airy_ai special.bessel_j0 special.bessel_j1 special.bessel_y0 special.bessel_y1 special.gammainc
    special.gammaincc special.modified_bessel_k0 special.modified_bessel_k1 special.scaled_modified_bessel_k0
    special.scaled_modified_bessel_k1 special.spherical_bessel_j0 special.zeta special.multigammaln special.round igamma igammac
    special.chebyshev_polynomial_t special.chebyshev_polynomial_u special.chebyshev_polynomial_v special.chebyshev_polynomial_w
    special.shifted_chebyshev_polynomial_t special.shifted_chebyshev_polynomial_u special.shifted_chebyshev_polynomial_v
    special.shifted_chebyshev_polynomial_w special.hermite_polynomial_h special.hermite_polynomial_he special.laguerre_polynomial_l
    special.legendre_polynomial_p special.modified_bessel_i0 special.modified_bessel_i1 special.log_ndtr special.ndtri special.i0 special.i0e special.i1 special.i1e special.logit
    special.logsumexp special.ndtr special.polygamma special.sinc special.xlog1py special.xlogy
    nn.functional.avg_pool2d nn.functional.avg_pool3d nn.functional.gelu nn.functional.hardshrink nn.functional.linear
    nn.functional.logsigmoid nn.functional.normalize nn.functional.softplus nn.functional.softshrink
    """.split()
)
# Functions that compute in the dtype of `out` unless told otherwise; a dtype that they are told must be that of `out`.
FOLLOW = frozenset(
    "sum prod cumsum cumprod nansum zeros ones empty full eye arange range linspace logspace rand randn randint randperm "
    "fft.fftfreq fft.rfftfreq".split()
)
JOINING = frozenset("cat stack hstack vstack dstack column_stack".split())  # a dtype that does not fit is a TypeError here


def public(function: Callable, name: str = "", module: str = "") -> Callable:
    """A function as users have it: its failures explained, and with `out` if PyTorch's has it.

    module: its module's name and a point, if errors are to name it without.
    """
    name = name or str(getattr(function, "__name__", ""))
    return checked(function, name, into if module + name in TAKES_OUT else None)


def into(function: Callable, name: str, out: Any, args: tuple, kwargs: dict) -> Any:
    """`function(*args, **kwargs)`, written into `out`: a tensor, or for several results a tuple or list of them, which is returned.

    A tensor of another shape is resized, with a warning unless it is empty. TypeError if `out` is not what the results
    are, RuntimeError where a derivative is recorded, for results that do not fit the dtype, and where memory that others
    share is too small.

    >>> import adjoint as torch
    >>> out = torch.empty(2)
    >>> torch.exp(torch.tensor([0., 1.]), out=out) is out
    True
    >>> out
    tensor([1.0000, 2.7183])
    """
    if out is None:
        return function(*args, **kwargs)
    if not isinstance(out, (Tensor, tuple, list)):
        raise TypeError(f"{name}(): argument 'out' must be Tensor, not {shown(out)}")
    requires_grad = False
    if name in FOLLOW and isinstance(out, Tensor):
        kwargs = {**kwargs, "dtype": _dtype_for(name, out, kwargs.get("dtype"))}
        requires_grad = kwargs.pop("requires_grad", False)
    found = function(*args, **kwargs)
    if isinstance(found, Tensor):
        if not isinstance(out, Tensor):
            raise TypeError(f"{name}(): argument 'out' must be Tensor, not {shown(out)}")
        _check(name, out, found)
        _write(name, out, found)
        return create.require_leaf(out) if requires_grad else out
    if isinstance(out, Tensor) or len(out) != len(found) or not all([isinstance(t, Tensor) for t in out]):
        raise TypeError(f"{name}(): argument 'out' must be a tuple of {len(found)} Tensors, one for each result, not {shown(out)}")
    for t, value in zip(out, found, strict=True):
        _check(name, t, value)
    for t, value in zip(out, found, strict=True):
        _write(name, t, value)
    return type(found)(out)


def _dtype_for(name: str, out: Tensor, asked: Any) -> dtypes.DType:
    have, dtype = out._aval.dtype, create.check_dtype(asked)
    if dtype is not None and dtype is not have:
        raise RuntimeError(
            f"{name}(): dtype {dtypes.LEGACY[dtype]} does not match the dtype of the out parameter ({dtypes.LEGACY[have]}); "
            "leave dtype away, it is then that of out"
        )
    return have


def _check(name: str, out: Tensor, value: Tensor) -> None:
    """Whether `value` may be written into `out`; nothing is changed before all of several results have passed."""
    if local.trace.grad and (out._aval.requires_grad or value._aval.requires_grad):
        which = "out" if out._aval.requires_grad else "one of the arguments"
        raise RuntimeError(
            f"{name}(): functions with out=... arguments don't support automatic differentiation, but {which} requires grad; "
            "call it without out, or under torch.no_grad()"
        )
    check_in_place(out)
    have, needed = out._aval.dtype, value._aval.dtype
    if not dtypes.can_cast(needed, have):
        kind = TypeError if name in JOINING else RuntimeError
        raise kind(
            f"{name}(): result type {dtypes.LEGACY[needed]} can't be cast to the desired output type {dtypes.LEGACY[have]}; "
            f"give an out of dtype {needed}"
        )


def _frames_to_the_user() -> int:
    """The level of a warning of the calling function that is to name the line outside of this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_package):
        level, frame = level + 1, frame.f_back
    return level


def _write(name: str, out: Tensor, value: Tensor) -> None:
    shape, given = tuple(value._aval.shape), tuple(out._aval.shape)
    if shape != given:
        if out._aval.size:
            warnings.warn(
                f"{name}(): out has shape {list(given)} and elements, but the result has shape {list(shape)}: out is resized. "
                "Give one of that shape, or let it be empty first: out.resize_(0)",
                stacklevel=_frames_to_the_user(),
            )
        try:
            storage.resize_(out, shape)
        except RuntimeError as error:
            raise RuntimeError(
                f"{name}(): out has shape {list(given)}, and cannot be given that of the result, {list(shape)}: {error}; give an out of "
                "that shape"
            ) from None
    overwrite(out, index.fit(value, shape, out._aval.dtype))
