"""The table of the methods of `Tensor`: delegations to `adjoint.ops`, and those of this folder. `attach` puts them in place."""

from __future__ import annotations

import functools
import importlib
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from adjoint import dtypes, layouts
from adjoint.absent import TENSOR, Absent
from adjoint.methods.copies import (
    deepcopy,
    init_parameter,
    init_tensor,
    reduce_tensor,
    shallow_copy,
)
from adjoint.methods.gradients import (
    backward,
    data_of,
    forget_grad,
    grad_dtype_of,
    grad_fn_of,
    register_hook,
    register_post_accumulate_grad_hook,
    retain_grad,
    set_grad,
    set_grad_dtype,
    set_requires_grad,
)
from adjoint.methods.in_place import (
    abs_in_place,
    augmented,
    copy_,
    detach_,
    fill_,
    fill_diagonal_,
    float_power_,
    in_place,
    writer_of,
    zero_,
)
from adjoint.methods.kinds import (
    CPU,
    device_now,
    dim_order,
    get_device,
    is_inference,
    is_same_size,
    make_new,
    names_of,
    no_cuda,
    pin_memory,
    stride_of,
    sum_to_size,
    to,
    type_of,
)
from adjoint.methods.values import (
    allclose,
    contains,
    equal,
    format_tensor,
    is_nonzero,
    item,
    iterate,
    length,
    number_of,
    numpy,
    represent,
    to_array,
    to_float,
    to_index,
    tolist,
    truth,
)
from adjoint.ops import (
    complex_numbers,
    create,
    distinct,
    elementwise,
    exchange,
    gather,
    generators,
    histograms,
    index,
    joining,
    linalg,
    masks,
    numeric,
    products,
    random,
    rearrange,
    reduce,
    samples,
    shape,
    sort,
    special,
    storage,
)
from adjoint.ops.elementwise import cast, functions
from adjoint.trace import recorder
from adjoint.trace.arguments import checked
from adjoint.trace.handle import Parameter, Tensor
from adjoint.trace.views import is_leaf

SAME_NAME = {
    elementwise: "add sub div pow round square reciprocal clamp floor_divide remainder isfinite logical_and logical_or "
    "logical_xor lerp addcmul addcdiv xlogy logaddexp isclose nan_to_num heaviside hypot copysign deg2rad rad2deg frac logit",
    reduce: "sum prod mean var std amax amin argmax argmin max min any all count_nonzero cumsum cumprod cummax cummin "
    "logsumexp norm dist median nanmedian aminmax",
    shape: "reshape view permute transpose movedim t squeeze unsqueeze flatten unflatten expand broadcast_to contiguous "
    "clone detach narrow select diagonal unfold as_strided ravel",
    joining: "split split_with_sizes chunk unbind tensor_split hsplit vsplit dsplit",
    rearrange: "flip fliplr flipud rot90 repeat tile repeat_interleave roll tril triu diag diag_embed diagflat trace narrow_copy "
    "diagonal_scatter select_scatter slice_scatter as_strided_scatter",
    index: "index_put",
    gather: "gather take_along_dim index_select take put scatter scatter_add scatter_reduce index_add index_copy index_fill "
    "index_reduce",
    masks: "masked_fill masked_select masked_scatter nonzero argwhere",
    distinct: "unique unique_consecutive",
    sort: "argsort sort msort topk kthvalue mode bincount histc quantile nanquantile",
    histograms: "histogram",
    numeric: "positive fmax fmin signbit isposinf isneginf float_power ldexp logaddexp2 gcd lcm nextafter frexp",
    products: "matmul mm mv dot bmm outer addmm baddbmm addmv kron inner vdot addr addbmm",
    linalg: "inv det slogdet logdet qr svd pinv matrix_power cross cholesky_solve cholesky_inverse matrix_exp",
    complex_numbers: "conj angle is_conj resolve_conj is_neg resolve_neg conj_physical sgn isreal is_complex",
    samples: "cov corrcoef nansum nanmean diff logcumsumexp renorm",
    special: "i0 mvlgamma sinc",
    random: "uniform_ normal_ bernoulli_ exponential_ random_ geometric_ cauchy_ log_normal_ bernoulli multinomial",
}  # fmt: skip
ALIASES = {
    "absolute": "abs", "negative": "neg", "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div",
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh",
    "arctan2": "atan2", "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le", "not_equal": "ne",
    "clip": "clamp", "swapaxes": "transpose", "swapdims": "transpose", "moveaxis": "movedim", "ger": "outer",
    "inverse": "inv", "pinverse": "pinv", "fix": "trunc", "bitwise_left_shift": "shift_left", "bitwise_right_shift": "shift_right",
}  # fmt: skip
IN_PLACE = (
    "add sub mul div pow neg abs exp exp2 expm1 log log2 log10 log1p sqrt rsqrt sin cos tan asin acos atan sinh cosh tanh "
    "sigmoid relu floor ceil round trunc clamp reciprocal square remainder fmod floor_divide lerp addcmul addcdiv "
    "masked_fill masked_scatter scatter scatter_add scatter_reduce index_add index_copy index_fill index_put index_reduce put cumsum cumprod tril triu "
    "acosh asinh atanh atan2 hypot copysign heaviside ldexp xlogy logical_and logical_or logical_xor sign sgn frac logit "
    "erf erfc erfinv lgamma digamma deg2rad rad2deg conj_physical renorm nan_to_num logical_not bitwise_not bitwise_and bitwise_or bitwise_xor eq ne lt le gt ge addmm baddbmm addbmm addmv addr gcd lcm nextafter i0 polygamma mvlgamma sinc igamma igammac"
).split()
EXPLAINED = (
    "view_as expand_as reshape_as type_as new_full new_tensor new_zeros where equal allclose copy_ softmax log_softmax stride "
    "set_ resize_ resize_as_ is_set_to"
)
ELSEWHERE = "is_cuda is_meta is_sparse is_sparse_csr is_quantized is_mkldnn is_nested is_mps is_vulkan is_xla is_xpu is_ipu is_maia is_mtia"
IN_PLACE_VIEWS = "squeeze unsqueeze t transpose swapaxes swapdims as_strided".split()
CASTS = {"float": dtypes.float32, "double": dtypes.float64, "long": dtypes.int64, "int": dtypes.int32,
         "short": dtypes.int16, "char": dtypes.int8, "byte": dtypes.uint8, "bool": dtypes.bool, "half": dtypes.float16,
         "bfloat16": dtypes.bfloat16, "cfloat": dtypes.complex64, "cdouble": dtypes.complex128}  # fmt: skip


def _comparison(name: str) -> Callable[[Tensor, Any], Any]:
    function = functions[name]

    def compare(self: Tensor, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            other = recorder.tensor_from_array(other)
        if not isinstance(other, (Tensor, int, float, complex, np.generic)):
            return NotImplemented
        return function(self, other)

    return compare


def _matmul(self: Tensor, other: Any) -> Any:
    if isinstance(other, np.ndarray):
        return products.matmul(*_together(self, recorder.tensor_from_array(other)))
    return products.matmul(self, other) if isinstance(other, Tensor) else NotImplemented


def _reflected_matmul(self: Tensor, other: Any) -> Any:
    return products.matmul(*_together(recorder.tensor_from_array(other), self)) if isinstance(other, np.ndarray) else NotImplemented


def _together(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """In the dtype in which they meet: NumPy's arrays are of float64 more often than meant."""
    dtype = elementwise.dtype_together(x, y)
    return cast(x, dtype), cast(y, dtype)


def attach() -> None:
    """Put every method on `Tensor`."""
    T: Any = Tensor
    methods: dict[str, Any] = dict(functions)
    for module, names in SAME_NAME.items():
        for name in names.split():
            methods[name] = checked(getattr(module, name), name)
    methods["cholesky"] = checked(linalg.cholesky)
    methods["size"] = shape.size_of
    for new, old in ALIASES.items():
        if old in methods:
            methods[new] = methods[old]
    methods["polygamma"] = checked(lambda self, n: special.polygamma(n, self), "polygamma")
    methods["igamma"] = _late("ops.incomplete_gamma", "igamma")
    methods["igammac"] = _late("ops.incomplete_gamma", "igammac")
    for name in IN_PLACE:
        methods[name + "_"] = in_place(methods[name], name + "_")
    for new, old in ALIASES.items():
        if old in IN_PLACE:
            methods[new + "_"] = in_place(methods[old], new + "_")
    for name in ("abs_", "absolute_"):
        methods[name] = in_place(abs_in_place, name)
    methods["mul"] = lambda self, other: functions["mul"](self, other)
    for name, dtype in CASTS.items():
        methods[name] = lambda self, memory_format=None, dtype=dtype: cast(self, dtype)
    methods.update(
        item=item, tolist=tolist, numpy=numpy, to=to, type=type_of, cpu=lambda self: self, cuda=no_cuda,
        backward=backward, register_hook=register_hook, retain_grad=retain_grad,
        register_post_accumulate_grad_hook=register_post_accumulate_grad_hook,
        requires_grad_=create.require_leaf, zero_=zero_, fill_=fill_, copy_=copy_, detach_=detach_,
        fill_diagonal_=fill_diagonal_, float_power_=checked(float_power_), dim=lambda self: len(self._aval.shape),
        ndimension=lambda self: len(self._aval.shape), numel=lambda self: self._aval.size,
        nelement=lambda self: self._aval.size, element_size=lambda self: self._aval.dtype.itemsize,
        stride=stride_of, unsafe_split=joining.split, unsafe_chunk=joining.chunk, adjoint=complex_numbers.conjugate_transpose,
        is_contiguous=shape.in_order,
        is_floating_point=lambda self: self._aval.dtype.is_floating_point,
        type_as=lambda self, other: cast(self, other._aval.dtype),
        expand_as=lambda self, other: shape.expand(self, tuple(other._aval.shape)),
        view_as=lambda self, other: shape.view(self, tuple(other._aval.shape)),
        reshape_as=lambda self, other: shape.reshape(self, tuple(other._aval.shape)),
        new_zeros=checked(lambda self, *size, dtype=None, **k: create.zeros(*size, dtype=dtype or self._aval.dtype, **k), "new_zeros"),
        new_ones=checked(lambda self, *size, dtype=None, **k: create.ones(*size, dtype=dtype or self._aval.dtype, **k), "new_ones"),
        new_empty=checked(lambda self, *size, dtype=None, **k: create.empty(*size, dtype=dtype or self._aval.dtype, **k), "new_empty"),
        new_full=lambda self, size, fill_value, dtype=None, **k: create.full(size, fill_value, dtype=dtype or self._aval.dtype, **k),
        new_tensor=lambda self, data, dtype=None, **k: create.tensor(data, dtype=dtype or self._aval.dtype, **k),
        where=lambda self, condition, other: elementwise.where(condition, self, other),
        equal=lambda self, other: equal(self, other),
        allclose=lambda self, other, rtol=1e-05, atol=1e-08, equal_nan=False: allclose(self, other, rtol, atol, equal_nan),
        is_same_size=checked(is_same_size), get_device=get_device, data_ptr=storage.data_ptr, const_data_ptr=storage.data_ptr,
        share_memory_=storage.share_memory_, is_shared=storage.is_shared, pin_memory=pin_memory,
        is_pinned=lambda self, device=None: False, is_distributed=lambda self: False, storage=storage.typed_storage,
        sum_to_size=checked(sum_to_size), dim_order=dim_order, new=checked(make_new, "new"), apply_=_late("ops.by_python", "apply_"),
        map_=_late("ops.by_python", "map_"), map2_=_late("ops.by_python", "map2_"), lu=_late("ops.factors", "packed_lu"),
        lu_solve=_late("ops.factors", "lu_solve"), unsafe_split_with_sizes=joining.split_with_sizes,
        new_empty_strided=lambda self, size, stride, dtype=None, **k: create.empty_strided(size, stride, dtype=dtype or self._aval.dtype, **k),
        clamp_min=checked(numeric.clamp_min), clamp_max=checked(numeric.clamp_max),
        clamp_min_=in_place(lambda t, low: elementwise.clamp(t, min=low), "clamp_min_"),
        clamp_max_=in_place(lambda t, high: elementwise.clamp(t, max=high), "clamp_max_"),
        bitwise_left_shift_=in_place(functions["shift_left"], "bitwise_left_shift_"),
        bitwise_right_shift_=in_place(functions["shift_right"], "bitwise_right_shift_"),
        to_dense=lambda self, dtype=None: self if dtype is None else cast(self, dtype),
        is_nonzero=is_nonzero, is_inference=is_inference, is_signed=lambda self: self._aval.dtype.is_signed,
        **{f"{n}_": storage.in_place_view(methods[n], f"{n}_") for n in IN_PLACE_VIEWS},
        storage_offset=storage.storage_offset, untyped_storage=storage.untyped_storage, _is_view=storage.is_view,
        is_set_to=storage.is_set_to, set_=storage.set_, resize_=storage.resize_, resize_as_=storage.resize_as_,
        __dlpack__=exchange.to_dlpack, __dlpack_device__=exchange.dlpack_device,
        stft=_late("ops.frames", "stft"), istft=_late("ops.frames", "istft"),
        hardshrink=lambda self, lambd=0.5: _functional("hardshrink")(self, lambd),
        prelu=lambda self, weight: _functional("prelu")(self, weight),
        softmax=lambda self, dim, dtype=None: _functional("softmax")(self, dim=dim, dtype=dtype),
        log_softmax=lambda self, dim, dtype=None: _functional("log_softmax")(self, dim=dim, dtype=dtype),
    )  # fmt: skip
    for name in EXPLAINED.split():
        methods[name] = checked(methods[name], name)
    for name, function in methods.items():
        setattr(T, name, function)
    T.__add__ = T.__radd__ = elementwise.method_add
    T.__sub__, T.__rsub__ = elementwise.method_sub, elementwise.reflected_sub
    T.__mul__ = T.__rmul__ = elementwise.method_mul
    T.__truediv__, T.__rtruediv__ = elementwise.method_div, elementwise.reflected_div
    for sign in ("add", "sub", "mul", "truediv"):
        recorder.operators.update({name: vars(T)[name] for name in (f"__{sign}__", f"__r{sign}__")})
    T.__neg__, T.__pos__, T.__abs__ = functions["neg"], lambda self: self, functions["abs"]
    T.__pow__ = elementwise.pow
    T.__rpow__ = lambda self, other: elementwise.pow(other, self)
    T.__matmul__ = _matmul
    T.__rmatmul__ = _reflected_matmul
    T.__floordiv__ = elementwise.floor_divide
    T.__rfloordiv__ = lambda self, other: elementwise.floor_divide(other, self)
    T.__mod__ = elementwise.remainder
    T.__rmod__ = lambda self, other: elementwise.remainder(other, self)
    T.__and__ = T.__rand__ = functions["bitwise_and"]
    T.__or__ = T.__ror__ = functions["bitwise_or"]
    T.__xor__ = T.__rxor__ = functions["bitwise_xor"]
    T.__invert__ = _invert
    T.__lshift__, T.__rshift__ = functions["shift_left"], functions["shift_right"]
    T.__rlshift__ = lambda self, other: functions["shift_left"](other, self)
    T.__rrshift__ = lambda self, other: functions["shift_right"](other, self)
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        setattr(T, f"__{name}__", _comparison(name))
    T.__hash__ = object.__hash__
    for name, function in dict(
        iadd=elementwise.method_add, isub=elementwise.method_sub, imul=elementwise.method_mul,
        itruediv=elementwise.method_div, ipow=elementwise.pow, ifloordiv=elementwise.floor_divide,
        imod=elementwise.remainder, iand=functions["bitwise_and"], ior=functions["bitwise_or"],
        ixor=functions["bitwise_xor"], ilshift=functions["shift_left"], irshift=functions["shift_right"],
    ).items():  # fmt: skip
        prim = {"itruediv": "div"}.get(name, name[1:])
        setattr(T, f"__{name}__", augmented(f"{name[1:]}_", function, prim if prim in ("add", "sub", "mul", "div") else ""))
    T.__getitem__, T.__setitem__ = index.getitem, index.setitem
    recorder.operators |= {"__getitem__": index.getitem, "__setitem__": index.setitem, "item": item}
    T.__len__, T.__iter__, T.__contains__ = length, iterate, contains
    T.__bool__, T.__index__ = truth, to_index
    T.__float__ = to_float
    T.__complex__ = lambda self: complex(item(self))
    T.__int__ = lambda self: int(number_of(self))
    T.__repr__ = T.__str__ = represent
    T.__format__ = format_tensor
    T.__array__ = to_array
    T.__array_priority__ = 1000
    T.__array_ufunc__, T.__array_wrap__ = exchange.array_ufunc, exchange.array_wrap
    T.__copy__, T.__deepcopy__, T.__reduce_ex__ = shallow_copy, deepcopy, reduce_tensor
    T.__init__ = init_tensor
    for name in TENSOR:
        if not hasattr(T, name):
            setattr(T, name, Absent(name))
    T.__dir__ = names_of
    Parameter.__init__ = init_parameter  # type: ignore[method-assign,assignment]
    properties = dict(
        shape=lambda self: self._aval.shape, dtype=lambda self: self._aval.dtype, device=device_now,
        ndim=lambda self: len(self._aval.shape), is_leaf=is_leaf, T=shape.reverse_axes, mT=shape.matrix_transpose,
        H=lambda self: complex_numbers.conj(shape.reverse_axes(self)),
        mH=complex_numbers.conjugate_transpose, grad_fn=grad_fn_of,
        itemsize=lambda self: self._aval.dtype.itemsize, nbytes=lambda self: self._aval.nbytes,
        is_cpu=lambda self: True, **dict.fromkeys(ELSEWHERE.split(), lambda self: False), layout=lambda self: layouts.strided,
        retains_grad=lambda self: bool(self._retains), names=lambda self: (None,) * len(self._aval.shape),
        output_nr=lambda self: 0, _cdata=id,
    )  # fmt: skip
    for name, function in properties.items():
        setattr(T, name, property(function))
    T.real = property(complex_numbers.real, writer_of(complex_numbers.real))
    T.imag = property(complex_numbers.imag, writer_of(complex_numbers.imag))
    T.requires_grad = property(lambda self: self._aval.requires_grad, set_requires_grad)
    generators.Generator.device = property(lambda self: CPU)  # type: ignore[attr-defined]
    T.data = property(data_of, storage.set_data)
    T.grad_dtype = property(grad_dtype_of, set_grad_dtype)  # type: ignore[attr-defined]
    T.grad = property(operator.attrgetter("_grad"), set_grad, forget_grad)  # type: ignore[misc]


def _late(module: str, name: str) -> Callable[..., Any]:
    """The method that is a function of a module which few programs need: it is loaded when that is first called."""

    @functools.cache
    def function() -> Callable[..., Any]:
        return checked(getattr(importlib.import_module(f"adjoint.{module}"), name), name)

    return lambda self, *args, **kwargs: function()(self, *args, **kwargs)


def _functional(name: str) -> Callable:
    from adjoint.nn import functional

    return getattr(functional, name)


def _invert(self: Tensor) -> Tensor:
    dtype = self._aval.dtype
    if dtype.category > 1:
        raise TypeError(f"~ (operator.invert) is only implemented on integer and Boolean-type tensors, not {dtype.name}")
    return functions["logical_not" if dtype is dtypes.bool else "bitwise_not"](self)
