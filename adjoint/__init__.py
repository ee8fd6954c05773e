"""Adjoint: imperative tensor code, recorded, differentiated and compiled.

`import adjoint as torch` runs ordinary PyTorch programs. This module only gathers public names; `nn`, `optim`,
`distributions` and the other libraries load when first used.
"""

from __future__ import annotations

import importlib as _importlib
import math as _math
from builtins import bool as _builtin_bool
from builtins import int as _builtin_int
from typing import Any as _Any

from adjoint import dtypes as _dtypes
from adjoint._version import PYTORCH as _PYTORCH
from adjoint._version import __version__ as _VERSION
from adjoint.dtypes import DType as dtype
from adjoint.dtypes import (
    bfloat16,
    bool,
    can_cast,
    complex64,
    complex128,
    finfo,
    float16,
    float32,
    float64,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from adjoint.layouts import (
    channels_last,
    channels_last_3d,
    contiguous_format,
    layout,
    memory_format,
    preserve_format,
    strided,
)
from adjoint.methods import allclose, equal, get_device, is_inference, is_nonzero, is_same_size
from adjoint.methods import attach as _attach
from adjoint.methods import create_device as device
from adjoint.ops import complex_numbers as _complex
from adjoint.ops import copies as _copies
from adjoint.ops import create as _create
from adjoint.ops import distinct as _distinct
from adjoint.ops import elementwise as _elementwise
from adjoint.ops import exchange as _exchange
from adjoint.ops import gather as _gather
from adjoint.ops import generators as _generators
from adjoint.ops import histograms as _histograms
from adjoint.ops import in_place as _in_place
from adjoint.ops import index as _index
from adjoint.ops import joining as _joining
from adjoint.ops import linalg as _linalg
from adjoint.ops import masks as _masks
from adjoint.ops import numeric as _numeric
from adjoint.ops import products as _products
from adjoint.ops import random as _random
from adjoint.ops import rearrange as _rearrange
from adjoint.ops import reduce as _reduce
from adjoint.ops import samples as _samples
from adjoint.ops import shape as _shape
from adjoint.ops import short as _short
from adjoint.ops import sort as _sort
from adjoint.ops import special as _special
from adjoint.ops.results import public as _public
from adjoint.trace import recorder as _recorder
from adjoint.trace.aval import Size
from adjoint.trace.handle import Parameter as _Parameter
from adjoint.trace.handle import Tensor

_attach()

__version__ = f"{_PYTORCH}+adjoint{_VERSION}"  # as PyTorch's own builds say it: whose names these are, and which build

float = float32
double = float64
half = float16
cfloat = complex64
cdouble = complex128
long = int64
int = int32
short = int16
inf, nan, pi, e = _math.inf, _math.nan, _math.pi, _math.e
newaxis = None

_PUBLIC = {
    _exchange: "as_tensor asarray from_numpy from_dlpack frombuffer",
    _create: "tensor zeros ones empty full zeros_like ones_like empty_like full_like eye arange "
    "linspace logspace scalar_tensor empty_strided",
    _short: "add sub div pow square where sum matmul",
    _elementwise: "round reciprocal clamp floor_divide remainder isfinite logical_and "
    "logical_or logical_xor lerp addcmul addcdiv xlogy logaddexp isclose nan_to_num heaviside hypot copysign deg2rad "
    "rad2deg frac logit",
    _reduce: "prod mean var std var_mean std_mean amax amin argmax argmin max min any all count_nonzero cumsum "
    "cumprod cummax cummin logsumexp norm dist median nanmedian aminmax",
    _shape: "reshape permute transpose movedim t squeeze unsqueeze flatten unflatten broadcast_to broadcast_tensors "
    "clone detach narrow select diagonal as_strided ravel",
    _joining: "split split_with_sizes chunk unbind tensor_split hsplit vsplit dsplit cat stack hstack vstack dstack column_stack "
    "block_diag atleast_1d atleast_2d atleast_3d meshgrid cartesian_prod combinations",
    _rearrange: "flip fliplr flipud rot90 tile repeat_interleave roll tril triu tril_indices triu_indices diag diag_embed "
    "diagflat trace narrow_copy diagonal_scatter select_scatter slice_scatter as_strided_scatter",
    _index: "index_put index_put_ unravel_index fill",
    _gather: "gather take_along_dim index_select take put scatter scatter_add scatter_reduce index_add index_copy index_fill "
    "index_reduce",
    _masks: "masked_fill masked_select masked_scatter nonzero argwhere isin",
    _numeric: "positive fmax fmin clamp_min clamp_max signbit sgn isposinf isneginf float_power ldexp logaddexp2 rsub "
    "gcd lcm nextafter frexp",
    _distinct: "unique unique_consecutive",
    _sort: "argsort sort msort topk kthvalue mode bincount histc searchsorted bucketize quantile nanquantile",
    _histograms: "histogram histogramdd",
    _products: "mm mv dot bmm outer addmm baddbmm addmv kron tensordot einsum inner vdot addr addbmm",
    _linalg: "inv det slogdet logdet cholesky qr svd pinv matrix_power cross cholesky_solve cholesky_inverse matrix_exp chain_matmul vander",
    _samples: "cov corrcoef cdist nansum nanmean diff gradient trapezoid cumulative_trapezoid logcumsumexp renorm",
    _generators: "Generator default_generator manual_seed seed initial_seed get_rng_state set_rng_state",
    _random: "rand randn rand_like randn_like randint randint_like randperm normal bernoulli multinomial poisson binomial",
    _special: "i0 mvlgamma polygamma sinc",
    _complex: "complex polar real imag conj angle view_as_real view_as_complex isreal is_complex is_conj resolve_conj is_neg resolve_neg "
    "conj_physical sgn",
}
for _module, _names in _PUBLIC.items():
    for _name in _names.split():
        globals()[_name] = _public(getattr(_module, _name), _name)
globals().update(_short.functions)
globals().update(_in_place.functions())
globals().update(_copies.functions())
globals()["adjoint"] = _public(_complex.conjugate_transpose, "adjoint")
globals()["range"] = _public(_create.range_with_end, "range")
_window, _pad, _convolve = _rearrange.window, _rearrange.zero_pad, _rearrange.convolve
_attention = _products.attention
for _new, _old in dict(
    absolute="abs", negative="neg", subtract="sub", multiply="mul", divide="div", true_divide="div", arcsin="asin",
    arccos="acos", arctan="atan", arctan2="atan2", arcsinh="asinh", arccosh="acosh", arctanh="atanh", clip="clamp",
    concat="cat", concatenate="cat", swapaxes="transpose", swapdims="transpose", moveaxis="movedim", row_stack="vstack", pinverse="pinv", trapz="trapezoid",
    unsafe_split="split", unsafe_chunk="chunk", unsafe_split_with_sizes="split_with_sizes", ger="outer", inverse="inv", greater="gt",
    greater_equal="ge", less="lt", less_equal="le", not_equal="ne", fix="trunc",
    bitwise_left_shift="shift_left", bitwise_right_shift="shift_right",
).items():  # fmt: skip
    globals()[_new] = globals()[_old]


def is_tensor(obj: _Any) -> _Any:
    """Whether an object is a Tensor.

    >>> import adjoint as torch
    >>> torch.is_tensor([1, 2])
    False
    """
    return isinstance(obj, Tensor)


def is_floating_point(input: Tensor) -> _Any:
    """Whether the dtype is floating.

    >>> import adjoint as torch
    >>> torch.is_floating_point(torch.zeros(2))
    True
    """
    return input._aval.dtype.is_floating_point


def numel(input: Tensor) -> _Any:
    """The number of elements.

    >>> import adjoint as torch
    >>> torch.numel(torch.zeros(2, 3))
    6
    """
    return input._aval.size


def broadcast_shapes(*shapes: _Any) -> Size:
    """The shape to which shapes broadcast together.

    >>> import adjoint as torch
    >>> torch.broadcast_shapes((3, 1), (2,))
    torch.Size([3, 2])
    """
    from adjoint.trace.infer import broadcast

    return Size(broadcast("broadcast_shapes", [(s,) if isinstance(s, _builtin_int) else tuple(s) for s in shapes]))


def result_type(a: _Any, b: _Any) -> _Any:
    """The dtype in which two operands would meet.

    >>> import adjoint as torch
    >>> torch.result_type(torch.tensor([1, 2]), 1.5)
    torch.float32
    """
    from adjoint.trace.infer import common_dtype

    kinds = [x._aval if isinstance(x, Tensor) else type(x) for x in (a, b)]
    return common_dtype(kinds, _recorder.local.trace.default_dtype)


def promote_types(a: dtype, b: dtype) -> dtype:
    """The dtype in which two tensors of these dtypes meet.

    >>> import adjoint as torch
    >>> torch.promote_types(torch.int32, torch.float32)
    torch.float32
    """
    return _dtypes.promote(a, b)


def get_default_dtype() -> dtype:
    """The dtype of new floating tensors.

    >>> import adjoint as torch
    >>> torch.get_default_dtype()
    torch.float32
    """
    return _recorder.local.trace.default_dtype


def set_default_dtype(d: dtype) -> None:
    """The dtype of new floating tensors: float16, bfloat16, float32 or float64.

    >>> import adjoint as torch
    >>> torch.set_default_dtype(torch.float64)
    >>> torch.zeros(1).dtype
    torch.float64
    >>> torch.set_default_dtype(torch.float32)
    """
    if not isinstance(d, _dtypes.DType) or not d.is_floating_point:
        raise TypeError(f"only floating-point types are supported as the default type, got {d}")
    _recorder.local.trace.set_default_dtype(d)


def set_default_tensor_type(t: _Any) -> None:
    """The dtype of new floating tensors, by a type or its name: `torch.DoubleTensor` or "torch.DoubleTensor".

    TypeError for what is no such type. The older form of `set_default_dtype`.

    >>> import adjoint as torch
    >>> torch.set_default_tensor_type(torch.DoubleTensor)
    >>> torch.zeros(1).dtype
    torch.float64
    >>> torch.set_default_tensor_type("torch.FloatTensor")
    """
    if isinstance(t, str):
        chosen = _dtypes.TENSOR_TYPES.get(t.removeprefix("torch.")) if t.startswith("torch.") else None
    else:
        chosen = getattr(t, "dtype", None)
    if chosen is None:
        raise TypeError(f"invalid type object: set_default_tensor_type expects torch.FloatTensor or torch.DoubleTensor, got {t!r}")
    set_default_dtype(chosen)


def set_printoptions(**options: _Any) -> None:
    """Change how tensors print: precision, threshold, edgeitems, linewidth, sci_mode, or a profile.

    >>> import adjoint as torch
    >>> torch.set_printoptions(precision=2)
    >>> torch.tensor([0.123456])
    tensor([0.12])
    >>> torch.set_printoptions(profile="default")
    """
    from adjoint import printing

    printing.set_printoptions(**options)


def softmax(input: Tensor, dim: _Any = None, dtype: _Any = None) -> Tensor:
    """`exp(x)` along `dim`, divided by its sum.

    >>> import adjoint as torch
    >>> torch.softmax(torch.tensor([0., 0.]), dim=0)
    tensor([0.5000, 0.5000])
    """
    from adjoint.nn import functional

    return functional.softmax(input, dim=dim, dtype=dtype)


def log_softmax(input: Tensor, dim: _Any = None, dtype: _Any = None) -> Tensor:
    """The logarithm of softmax along `dim`, without overflow.

    >>> import adjoint as torch
    >>> torch.log_softmax(torch.tensor([0., 0.]), dim=0)
    tensor([-0.6931, -0.6931])
    """
    from adjoint.nn import functional

    return functional.log_softmax(input, dim=dim, dtype=dtype)


def dropout(input: Tensor, p: _Any, train: _Any) -> Tensor:
    """Zeros with probability `p` and the rest scaled by 1 / (1 - p) if `train`; else `input` itself.

    >>> import adjoint as torch
    >>> torch.dropout(torch.ones(2), 0.5, train=False)
    tensor([1., 1.])
    """
    from adjoint.nn import functional

    return functional.dropout(input, p, train)


def stats() -> dict:
    """What the engine has done so far: operations recorded, traces, programs and kernels compiled, buffers and bytes.

    >>> import adjoint as torch
    >>> before = torch.stats()["programs"]
    >>> torch.ones(3).sum().item()
    3.0
    >>> torch.stats()["programs"] - before <= 1
    True
    """
    from adjoint.runtime import engine_stats

    return engine_stats.collect(_recorder.counters)


def why(last: _builtin_int = 10) -> _Any:
    """Why the last programs were compiled: the first step that differs from what was known, both lines, cost and gain.

    >>> import adjoint as torch
    >>> _ = (torch.ones(5) * 2).sum().item()
    >>> len(torch.why(last=1)) <= 1
    True
    """
    from adjoint.trace import why

    return why.why(last)


def get_num_threads() -> _Any:
    """How many threads share the work of a large program.

    >>> import adjoint as torch
    >>> torch.get_num_threads() >= 1
    True
    """
    from adjoint.runtime import pool

    return pool.get_num_threads()


def set_num_threads(n: _Any) -> None:
    """Let `n` threads share the work of large programs. Results do not depend on it.

    >>> import adjoint as torch
    >>> torch.set_num_threads(torch.get_num_threads())
    """
    from adjoint.runtime import pool

    pool.set_num_threads(n)


def set_flush_denormal(mode: _builtin_bool) -> _builtin_bool:
    """Nothing is changed, and the answer is False, as in PyTorch on a processor that cannot flush: numbers below the least
    normal one are computed as IEEE 754 says. (Optimizers keep none in their averages, and tile registers know none:
    `docs/conventions.md`.)

    >>> import adjoint as torch
    >>> torch.set_flush_denormal(True)
    False
    """
    if not isinstance(mode, _builtin_bool):
        raise TypeError(f"set_flush_denormal expects a bool, but got {type(mode).__name__}")
    return False


for _name in "allclose equal is_nonzero is_same_size numel is_floating_point softmax log_softmax dropout promote_types".split():
    globals()[_name] = _public(globals()[_name], _name)


def _make_parameter(data: Tensor, requires_grad: _Any = True) -> Tensor:
    return _Parameter(data, requires_grad)


_LAZY_MODULES = ("nn", "optim", "utils", "distributions", "io", "autograd", "backends", "cuda", "fft", "func", "linalg", "random", "viz",
                 "special", "return_types", "testing", "compiler", "profiler", "amp", "jit", "multiprocessing", "accelerator", "cpu", "distributed", "functional", "fx",
                 "hub", "library", "mps", "ops", "overrides", "_C", "__config__", "_dynamo", "_higher_order_ops", "serialization", "types", "version", "xpu")
_LAZY_NAMES = {
    "save": "adjoint.io", "load": "adjoint.io", "no_grad": "adjoint.autograd.modes",
    "enable_grad": "adjoint.autograd.modes", "inference_mode": "adjoint.autograd.modes",
    "set_grad_enabled": "adjoint.autograd.modes", "is_grad_enabled": "adjoint.autograd.modes",
    "is_inference_mode_enabled": "adjoint.autograd.modes",
    **dict.fromkeys(
        "use_deterministic_algorithms are_deterministic_algorithms_enabled is_deterministic_algorithms_warn_only_enabled "
        "set_deterministic_debug_mode get_deterministic_debug_mode set_float32_matmul_precision get_float32_matmul_precision "
        "set_default_device get_default_device set_num_interop_threads get_num_interop_threads set_warn_always "
        "is_warn_always_enabled typename".split(), "adjoint.settings"),
    **dict.fromkeys(
        "_assert _assert_async _check _check_index _check_is_size _check_not_implemented _check_tensor_all _check_type _check_value _check_with "
        "AcceleratorError OutOfMemoryError Event Stream SymBool SymFloat SymInt sym_float sym_int sym_ite sym_max sym_min sym_not sym_sum".split(),
        "adjoint.checks"),
    "cond": "adjoint._higher_order_ops.control", "while_loop": "adjoint._higher_order_ops.control",
    "replace_torch": "adjoint.replace", "UntypedStorage": "adjoint.ops.storage", "TypedStorage": "adjoint.ops.storage", "get_device_module": "adjoint.settings", **dict.fromkeys("legacy_contiguous_format sparse_coo sparse_csr sparse_csc sparse_bsr sparse_bsc jagged".split(), "adjoint.layouts"),
    **dict.fromkeys("float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu".split(), "adjoint.dtypes"),
    "is_anomaly_enabled": "adjoint.autograd.anomaly", "is_anomaly_check_nan_enabled": "adjoint.autograd.anomaly",
    "set_anomaly_enabled": "adjoint.autograd.anomaly", "vmap": "adjoint.func", "eager": "adjoint.autograd.modes", "is_eager": "adjoint.autograd.modes",
    "compile": "adjoint.compiler", "VerificationError": "adjoint.runtime.verify",
    **dict.fromkeys("stft istft hann_window hamming_window blackman_window bartlett_window kaiser_window".split(), "adjoint.ops.frames"),
    **dict.fromkeys("autocast is_autocast_enabled get_autocast_dtype set_autocast_enabled set_autocast_dtype is_autocast_cpu_enabled "
                    "get_autocast_cpu_dtype get_autocast_gpu_dtype".split(), "adjoint.amp"),
    **dict.fromkeys(
        "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d prelu hardshrink bilinear cosine_similarity pairwise_distance "
        "pdist rms_norm relu_ celu_ selu_ rrelu_ threshold_ avg_pool1d adaptive_avg_pool1d max_pool1d max_pool2d max_pool3d pixel_shuffle "
        "pixel_unshuffle channel_shuffle".split(), "adjoint.nn.functional"),
    **dict.fromkeys(
        "batch_norm instance_norm layer_norm group_norm celu selu threshold rrelu alpha_dropout feature_dropout feature_alpha_dropout dropout_ "
        "alpha_dropout_ feature_dropout_ feature_alpha_dropout_ embedding embedding_bag embedding_renorm_ constant_pad_nd "
        "adaptive_max_pool1d max_pool1d_with_indices binary_cross_entropy_with_logits cosine_embedding_loss ctc_loss hinge_embedding_loss kl_div "
        "margin_ranking_loss poisson_nll_loss triplet_margin_loss".split(), "adjoint.nn.functional.toplevel"),
    **dict.fromkeys("rnn_tanh_cell rnn_relu_cell lstm_cell gru_cell".split(), "adjoint.nn.recurrent"),
    "igamma": "adjoint.ops.incomplete_gamma", "igammac": "adjoint.ops.incomplete_gamma",
    "lu": "adjoint.ops.factors", "lu_solve": "adjoint.ops.factors", "lu_unpack": "adjoint.ops.factors",
    "svd_lowrank": "adjoint.ops.low_rank", "pca_lowrank": "adjoint.ops.low_rank",
}  # fmt: skip

_OTHER_NAMES = {"lu": "packed_lu"}  # those that these have in their modules


def __getattr__(name: str) -> _Any:
    if name in _dtypes.TENSOR_TYPES:
        from adjoint.methods.typed import tensor_type

        globals()[name] = tensor_type(name)
        return globals()[name]
    if name in _LAZY_MODULES:
        return _importlib.import_module(f"adjoint.{name}")
    if name == "torch":  # which PyTorch has of itself
        return _importlib.import_module("adjoint")
    if name.startswith("_foreach_"):
        globals()[name] = getattr(_importlib.import_module("adjoint.foreach"), name)
        return globals()[name]
    if name in _LAZY_NAMES:
        value = getattr(_importlib.import_module(_LAZY_NAMES[name]), _OTHER_NAMES.get(name, name))
        globals()[name] = value
        return value
    from adjoint.absent import absent

    raise absent("adjoint", name, __dir__())


def __dir__() -> list:
    return sorted({*globals(), *_LAZY_MODULES, *_LAZY_NAMES, *_dtypes.TENSOR_TYPES})


__all__ = ["Size", "Tensor", "allclose", "bool", "device", "dtype", "equal", "float32", "float64", "int16", "int32", "int64", "int8", "uint8"]
