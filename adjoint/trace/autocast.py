"""What `torch.autocast` does to the operands of public functions.

Products run in its dtype, functions whose results need more digits in float32, all others in what they are given. Which
is which follows PyTorch's lists for CPUs. The dtype belongs to the trace (`Trace.lowered`) and to the path in the trie, so
what is known of a path holds for the mode in which it was recorded. Read `run`; `amp.py` is what users call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from adjoint.dtypes import DType, float32, float64
from adjoint.trace import recorder
from adjoint.trace.handle import Tensor
from adjoint.trace.state import local

# Those that are made of `matmul` alone follow it. `linear` lowers its operands where it is recorded.
_LOWERED = frozenset(
    "addmm addbmm baddbmm conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d prelu scaled_dot_product_attention vecdot".split()
)
_WIDENED = frozenset(
    "inv inv_ex inverse solve cholesky cholesky_ex cholesky_solve cholesky_inverse qr svd svdvals eigh eigvalsh eig eigvals matrix_rank "
    "cond lstsq pinverse householder_product tensorinv tensorsolve "
    "fft ifft fft2 ifft2 fftn ifftn rfft irfft rfft2 irfft2 rfftn irfftn hfft ihfft hfft2 ihfft2 hfftn ihfftn "
    "prod quantile nanquantile cdist trace stft polar view_as_complex grid_sample local_response_norm avg_pool3d max_pool3d adaptive_avg_pool3d "
    "mse_loss l1_loss smooth_l1_loss huber_loss nll_loss cross_entropy binary_cross_entropy binary_cross_entropy_with_logits kl_div "
    "ctc_loss cosine_embedding_loss hinge_embedding_loss margin_ranking_loss soft_margin_loss triplet_margin_loss poisson_nll_loss "
    "multi_margin_loss multilabel_margin_loss".split()
)
HEEDING = _LOWERED | _WIDENED

used = False  # whether any thread has ever entered a context: before that nobody looks for one


def in_dtype(x: Any, dtype: DType) -> Any:
    """A floating tensor, or a list of them, in another dtype; float64 and everything else as it is."""
    if isinstance(x, Tensor):
        own = x._aval.dtype
        if own is dtype or own is float64 or own.category != 2:
            return x
        return recorder.record("cast", (x,), dtype)
    if type(x) in (list, tuple):
        return type(x)([in_dtype(t, dtype) for t in x])
    return x


def lowered(*operands: Any) -> Any:
    """Operands of a product, in the dtype of `autocast` where it is on in this thread."""
    dtype = local.trace.lowered
    return operands if dtype is None else [in_dtype(x, dtype) for x in operands]


def run(name: str, function: Callable, args: tuple, kwargs: dict) -> Any:
    """A function of that name, one of those that heed `autocast`, on operands as it wants them; what it is made of does not heed it."""
    tr = local.trace
    dtype = tr.lowered
    if dtype is None:
        return function(*args, **kwargs)
    wanted = float32 if name in _WIDENED else dtype
    args, kwargs = tuple([in_dtype(x, wanted) for x in args]), {k: in_dtype(x, wanted) for k, x in kwargs.items()}
    try:
        tr.set_lowered(None)
        return function(*args, **kwargs)
    finally:
        tr.set_lowered(dtype)


def under_autocast(name: str, function: Callable) -> Callable:
    """A macro that heeds `autocast`: its operands are converted before it is looked up."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return run(name, function, args, kwargs) if used else function(*args, **kwargs)

    return call
