"""Random numbers: counter-based, so that a seed and a call number determine every value on every machine.

A `Generator` (`ops/generators.py`) holds a seed and counts calls; each call draws an independent sequence of
Philox4x32-10, indexed by element. Seed and call number are run-time arguments of the trace. Uniform numbers are exact multiples of 2**-24 (float32) or
2**-53 (float64); normal ones come from two uniforms by Box and Muller (1958).
"""

from __future__ import annotations

import math
from typing import Any

from adjoint import dtypes
from adjoint.dtypes import DType
from adjoint.ops import elementwise as ew
from adjoint.ops.create import check_device, check_dtype, require_leaf
from adjoint.ops.elementwise import cast, where
from adjoint.ops.generators import Generator, default_generator
from adjoint.ops.shape import sizes_of
from adjoint.ops.sort import argsort
from adjoint.trace.handle import Tensor
from adjoint.trace.macro import not_implemented
from adjoint.trace.recorder import local, record
from adjoint.trace.views import assign, check_in_place


def bits(shape: tuple[int, ...], generator: Generator | None) -> Tensor:
    """53 random bits per element; never baked into a macro, whatever is being recorded."""
    numbers = (default_generator if generator is None else generator).next_call()
    tr = local.trace
    static, tr.static = tr.static, 0
    try:
        return record("random_bits", numbers, tuple(shape))
    finally:
        tr.static = static


def uniform(shape: tuple[int, ...], dtype: DType, generator: Generator | None) -> Tensor:
    """Multiples of 2**-24 or 2**-53 in [0, 1); of as many digits as a half has."""
    if dtype.is_complex:
        return record("complex", tuple([uniform(shape, dtype.to_real(), generator) for _ in range(2)]))
    drawn = bits(shape, generator)
    if dtype is dtypes.float64:
        return cast(drawn, dtypes.float64) * 2.0**-53
    digits = {dtypes.float16: 11, dtypes.bfloat16: 8}.get(dtype, 24)
    return cast(cast(drawn >> (53 - digits), dtypes.float32) * 2.0**-digits, dtype)


def gaussian(shape: tuple[int, ...], dtype: DType, generator: Generator | None) -> Tensor:
    """sqrt(-2 log u) cos(2 pi v), with u in (0, 1]."""
    if dtype.is_half:
        return cast(gaussian(shape, dtypes.float32, generator), dtype)
    if dtype.is_complex:  # of variance 1 together
        return record("complex", tuple([gaussian(shape, dtype.to_real(), generator) * math.sqrt(0.5) for _ in range(2)]))
    u = 1.0 - uniform(shape, dtype, generator)
    v = uniform(shape, dtype, generator)
    return ew.sqrt(ew.log(u) * -2.0) * ew.cos(v * (2 * math.pi))


def _prepare(size: tuple, dtype: Any, device: Any) -> tuple[tuple[int, ...], DType]:
    check_device(device)
    shape = sizes_of(size if size else ((),))
    for n in shape:
        if n < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {n}: {list(shape)}")
    chosen = check_dtype(dtype) or local.trace.default_dtype
    if chosen.category < 2:
        raise NotImplementedError(not_implemented("rand", chosen))
    return shape, chosen


def _finish(out: Tensor, requires_grad: bool) -> Tensor:
    return require_leaf(out) if requires_grad else out


def rand(*size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False, **size_keyword: Any) -> Tensor:
    """Uniform on [0, 1).

    >>> import adjoint as torch
    >>> torch.rand(2, 3).shape
    torch.Size([2, 3])
    """
    shape, chosen = _prepare(_from_keyword(size, size_keyword), dtype, device)
    return _finish(uniform(shape, chosen, generator), requires_grad)


def randn(*size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False, **size_keyword: Any) -> Tensor:
    """Standard normal.

    >>> import adjoint as torch
    >>> torch.randn(2, 3).shape
    torch.Size([2, 3])
    """
    shape, chosen = _prepare(_from_keyword(size, size_keyword), dtype, device)
    return _finish(gaussian(shape, chosen, generator), requires_grad)


def _from_keyword(size: tuple, keywords: dict) -> tuple:
    if "size" in keywords:
        return (tuple(keywords["size"]),)
    if keywords:
        raise TypeError(f"got an unexpected keyword argument {next(iter(keywords))!r}")
    return size


def rand_like(input: Tensor, *, dtype: Any = None, generator: Generator | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Uniform numbers from [0, 1) in the shape and dtype of `input`.

    >>> import adjoint as torch
    >>> torch.rand_like(torch.zeros(2, 3)).shape
    torch.Size([2, 3])
    """
    return rand(tuple(input._aval.shape), dtype=dtype or input._aval.dtype, generator=generator, requires_grad=requires_grad)


def randn_like(input: Tensor, *, dtype: Any = None, generator: Generator | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Standard normal numbers in the shape and dtype of `input`.

    >>> import adjoint as torch
    >>> torch.randn_like(torch.zeros(2, 3)).shape
    torch.Size([2, 3])
    """
    return randn(tuple(input._aval.shape), dtype=dtype or input._aval.dtype, generator=generator, requires_grad=requires_grad)


def integers(shape: tuple[int, ...], low: int, high: int, generator: Generator | None) -> Tensor:
    """Integers from low to high - 1: the remainder of 53 random bits, or of 63 where the range is beyond 2**32."""
    span = high - low
    if span >= 2**63:
        raise RuntimeError(f"random integers from {low} to {high - 1}: a range has at most 2**63 - 1 numbers, this one {span}")
    drawn = bits(shape, generator)
    if span > 2**32:
        drawn = (drawn << 10) ^ (bits(shape, generator) >> 43)
    return drawn % span + low


def randint(low: int = 0, high: Any = ..., size: Any = None, *, generator: Generator | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Integers from low (0) to high - 1. The bias of the remainder is below 2**-21, and below the range times 2**-63
    where the range is beyond 2**32.

    >>> import adjoint as torch
    >>> torch.randint(5, 6, (3,))
    tensor([5, 5, 5])
    """
    if size is None:
        high, size = ..., high
    if size is ... or high is None:
        raise TypeError(f"randint({low}, ...): it takes randint(low=0, high, size), the bounds and the sizes of the result")
    if high is ...:  # the one bound that was given
        low, high = 0, low
    if isinstance(dtype, DType) and dtype.is_complex:
        raise RuntimeError(f"randint: expected an integer or real floating dtype, not {dtype.name}")
    if not high > low:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    check_device(device)
    out = cast(integers(sizes_of((size,)), int(low), int(high), generator), check_dtype(dtype) or dtypes.int64)
    return _finish(out, requires_grad)


def randint_like(input: Tensor, low: int, high: Any = None, *, dtype: Any = None, generator: Generator | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Random integers from `low` (0 if only one bound is given) up to `high`, in the shape and dtype of `input`.

    >>> import adjoint as torch
    >>> torch.randint_like(torch.zeros(2), 5, 6)
    tensor([5., 5.])
    """
    if high is None:
        low, high = 0, low
    chosen = dtype or input._aval.dtype
    return randint(low, high, tuple(input._aval.shape), dtype=chosen, generator=generator, device=device, requires_grad=requires_grad)


def randperm(n: int, *, generator: Generator | None = None, dtype: Any = None, device: Any = None) -> Tensor:
    """The numbers 0 to n - 1 in random order.

    >>> import adjoint as torch
    >>> torch.randperm(4).sort().values
    tensor([0, 1, 2, 3])
    """
    if isinstance(dtype, DType) and dtype.category in (0, 3):
        raise NotImplementedError(not_implemented("randperm", dtype))
    check_device(device)
    (n,) = sizes_of((n,))
    if n < 0:
        raise RuntimeError(f"n must be non-negative, got {n}")
    return cast(argsort(bits((n,), generator), 0), check_dtype(dtype) or dtypes.int64)


def normal(mean: Any, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Normal numbers of the given mean and standard deviation (numbers with `size`, or tensors).

    Raises RuntimeError for a negative standard deviation.

    >>> import adjoint as torch
    >>> torch.normal(0.0, 1.0, (2, 3)).shape
    torch.Size([2, 3])
    """
    if not isinstance(std, Tensor) and not std >= 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    if size is None:
        like = mean if isinstance(mean, Tensor) else std
        if not isinstance(like, Tensor):
            raise TypeError("normal() with two numbers needs a size: torch.normal(0.0, 1.0, (2, 3))")
        shape = (mean + std)._aval.shape if isinstance(mean, Tensor) and isinstance(std, Tensor) else like._aval.shape
        drawn = gaussian(tuple(shape), like._aval.dtype, generator)
    else:
        sizes, chosen = _prepare((tuple(size),) if isinstance(size, (list, tuple)) else (size,), dtype, device)
        drawn = gaussian(sizes, chosen, generator)
    return _finish(drawn * std + mean, requires_grad)


def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability each element of `input` states, else 0.

    >>> import adjoint as torch
    >>> torch.bernoulli(torch.tensor([0., 1.]))
    tensor([0., 1.])
    """
    ew.refuse("bernoulli", (2,), input)
    u = uniform(tuple(input._aval.shape), input._aval.dtype, generator)
    return cast(u < (input.detach() if p is None else p), input._aval.dtype)


def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None) -> Tensor:
    """Indices drawn from rows of non-negative weights.

    Without replacement by the order of exponential waiting times (Efraimidis and Spirakis 2006).

    >>> import adjoint as torch
    >>> torch.multinomial(torch.tensor([0., 1., 0.]), 1)
    tensor([1])
    """
    if not input._aval.dtype.is_floating_point:
        raise RuntimeError(
            f"multinomial only supports floating-point dtypes for input, got: {dtypes.LEGACY[input._aval.dtype]}"
        )
    weights = input.detach()
    if not weights._aval.dtype.is_floating_point:
        raise RuntimeError(f"multinomial only supports floating-point dtypes for input, got: {weights._aval.dtype.name}; use .float()")
    if len(weights._aval.shape) not in (1, 2):
        raise RuntimeError(f"prob_dist must be 1 or 2 dim, got shape {list(weights._aval.shape)}")
    if num_samples < 1:
        raise RuntimeError(f"cannot sample n_sample <= 0 samples, got num_samples={num_samples}")
    n = weights._aval.shape[-1]
    if not replacement and num_samples > n:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    rows = tuple(weights._aval.shape[:-1])
    if not replacement:
        waiting = -ew.log(1.0 - uniform((*rows, n), dtypes.float64, generator)) / cast(weights, dtypes.float64)
        waiting = where(weights > 0, waiting, math.inf)
        return argsort(waiting, -1)[..., :num_samples]
    cumulative = cast(weights, dtypes.float64).cumsum(-1)
    total = cumulative[..., -1:]
    u = uniform((*rows, num_samples), dtypes.float64, generator) * total
    return (u.unsqueeze(-1) >= cumulative.unsqueeze(-2)).sum(-1).clamp(max=n - 1)


def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Poisson counts, by the host's generator seeded from this stream.

    >>> import adjoint as torch
    >>> torch.poisson(torch.zeros(2))
    tensor([0., 0.])
    """
    import numpy as np

    from adjoint.trace.recorder import array_of, tensor_from_array

    drawn = (default_generator if generator is None else generator).host().poisson(array_of(input))
    return tensor_from_array(np.asarray(drawn), dtype=input._aval.dtype)


def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """How many of `count` trials succeed, each with probability `prob`; broadcast, by the host's generator seeded from this stream.

    ValueError unless both are floating and of one dtype. Counts are cut to whole numbers; those below 0 are 0, and
    probabilities outside of [0, 1] are the nearer end.

    >>> import adjoint as torch
    >>> torch.binomial(torch.tensor([3., 5.]), torch.tensor([0., 1.]))
    tensor([0., 5.])
    """
    import numpy as np

    from adjoint.trace.recorder import array_of, tensor_from_array

    dtype = count._aval.dtype
    for name, t in (("count", count), ("prob", prob)):
        if not t._aval.dtype.is_floating_point:
            raise ValueError(f"binomial only supports floating-point dtypes for {name}, got: {dtypes.LEGACY[t._aval.dtype]}; convert with .float()")
    if prob._aval.dtype is not dtype:
        raise ValueError(f"binomial: count has dtype {dtype.name} and prob {prob._aval.dtype.name}; convert one with .to()")
    n, p = (array_of(cast(t.detach(), dtypes.float64)) for t in (count, prob))
    host = (default_generator if generator is None else generator).host()
    drawn = host.binomial(np.maximum(np.nan_to_num(n), 0).astype(np.int64), np.clip(np.nan_to_num(p), 0, 1)).astype(np.float64)
    return cast(tensor_from_array(np.asarray(np.where(np.isnan(n) | np.isnan(p), np.nan, drawn))), dtype)


# --- in place -----------------------------------------------------------------------------------------------------------


def _fill(t: Tensor, value: Tensor) -> Tensor:
    check_in_place(t)
    return assign(t, cast(value, t._aval.dtype))


def _float_of(t: Tensor) -> DType:
    dtype = t._aval.dtype
    return dtypes.float32 if dtype.is_half else dtype if dtype.category >= 2 else local.trace.default_dtype


def uniform_(t: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    if a > b:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={a} > to={b}")
    ew.refuse("uniform_", (2, 3), t)
    return _fill(t, uniform(tuple(t._aval.shape), _float_of(t), generator) * (b - a) + a)


def normal_(t: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    if not std >= 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    ew.refuse("normal_", (2, 3), t)
    return _fill(t, gaussian(tuple(t._aval.shape), _float_of(t), generator) * std + mean)


def bernoulli_(t: Tensor, p: Any = 0.5, generator: Generator | None = None) -> Tensor:
    if not isinstance(p, Tensor) and not 0 <= p <= 1:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p}")
    return _fill(t, cast(uniform(tuple(t._aval.shape), _float_of(t), generator) < p, t._aval.dtype))


def exponential_(t: Tensor, lambd: float = 1.0, generator: Generator | None = None) -> Tensor:
    ew.refuse("exponential_", (2,), t)
    return _fill(t, -ew.log(1.0 - uniform(tuple(t._aval.shape), _float_of(t), generator)) / lambd)


def geometric_(t: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers of trials up to the first success, 1, 2, ..., of probability p each: ceil(log(1 - u) / log(1 - p))."""
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p}")
    ew.refuse("geometric_", (1, 2), t)
    wide = dtypes.float64 if t._aval.dtype.category < 2 else _float_of(t)
    drawn = ew.log(1.0 - uniform(tuple(t._aval.shape), wide, generator)) / math.log1p(-p)
    return _fill(t, ew.clamp(ew.functions["ceil"](drawn), min=1.0))


def cauchy_(t: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with draws from the Cauchy distribution: median + sigma tan(pi (u - 1/2))."""
    if t._aval.dtype.category < 2:
        raise RuntimeError(
            f"Cauchy distribution is a continuous probability distribution. dtype must be a floating point but you specified {t._aval.dtype.name}"
        )
    ew.refuse("cauchy_", (2,), t)
    if not sigma > 0:
        raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma}")
    wide = _float_of(t)
    step = 2.0**-54 if wide is dtypes.float64 else 2.0**-25  # between two multiples, so that no draw is at the poles
    return _fill(t, ew.functions["tan"]((uniform(tuple(t._aval.shape), wide, generator) + (step - 0.5)) * math.pi) * sigma + median)


def log_normal_(t: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with exp of normal draws of this mean and standard deviation."""
    ew.refuse("log_normal_", (2,), t)
    if not std > 0:
        raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std}")
    return _fill(t, ew.exp(gaussian(tuple(t._aval.shape), _float_of(t), generator) * std + mean))


def _count_of(d: DType) -> int:
    """How many whole numbers from 0 up a dtype tells apart; of 64-bit integers as many as a range may have."""
    if d.is_floating_point:
        return 1 << {dtypes.float64: 53, dtypes.float32: 24, dtypes.float16: 11}.get(d, 8)
    return min(1 << (1 if d is dtypes.bool else 8 * d.itemsize - d.is_signed), 2**63 - 1)


def random_(t: Tensor, low: int = 0, high: int | None = None, generator: Generator | None = None) -> Tensor:
    ew.refuse("random_", (0, 1, 2), t)
    if high is None:
        low, high = 0, low or _count_of(t._aval.dtype)
    if not high > low:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    return _fill(t, integers(tuple(t._aval.shape), low, high, generator))
