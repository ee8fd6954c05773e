"""Complex tensors: made of real parts, taken apart, conjugated.

Arithmetic on them is that of `elementwise`; which functions refuse them is said in `trace/infer.py`. Gradients follow
PyTorch: for a real loss the gradient by z is dL/d(re z) + i dL/d(im z).
"""

from __future__ import annotations

import math

from adjoint import dtypes
from adjoint.ops import elementwise as ew
from adjoint.ops.shape import matrix_transpose
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import record, record_one
from adjoint.trace.views import make_view


def _real_parts(name: str, a: Tensor, b: Tensor) -> None:
    kinds = a._aval.dtype, b._aval.dtype
    if any(k not in (dtypes.float32, dtypes.float64) for k in kinds):
        raise RuntimeError(
            f"Expected both inputs to be Float or Double tensors but got {dtypes.LEGACY[kinds[0]]} and "
            f"{dtypes.LEGACY[kinds[1]]}: {name} takes float32 or float64"
        )
    if kinds[0] is not kinds[1]:
        raise RuntimeError(
            f"Expected object of scalar type {dtypes.LEGACY[kinds[0]]} but got scalar type {dtypes.LEGACY[kinds[1]]} for second argument"
        )


def complex(real: Tensor, imag: Tensor) -> Tensor:
    """The complex tensor with these real and imaginary parts, float32 or float64, broadcast.

    >>> import adjoint as torch
    >>> torch.complex(torch.tensor([1., 2.]), torch.tensor([0., -1.]))
    tensor([1.+0.j, 2.-1.j])
    """
    _real_parts("complex", real, imag)
    return record("complex", (real, imag))


def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """The complex tensor with these absolute values and angles: `abs * (cos(angle) + 1j * sin(angle))`.

    >>> import adjoint as torch
    >>> torch.polar(torch.tensor([2.]), torch.tensor([0.]))
    tensor([2.+0.j])
    """
    _real_parts("polar", abs, angle)
    return record("complex", (abs * ew.cos(angle), abs * ew.sin(angle)))


def real(input: Tensor) -> Tensor:
    """The real part, as a view; of a real tensor the tensor itself.

    >>> import adjoint as torch
    >>> torch.real(torch.tensor([1 + 2j]))
    tensor([1.])
    """
    return make_view(input, "real", None) if input._aval.dtype.is_complex else input


def imag(input: Tensor) -> Tensor:
    """The imaginary part, as a view. RuntimeError for a real tensor.

    >>> import adjoint as torch
    >>> torch.imag(torch.tensor([1 + 2j]))
    tensor([2.])
    """
    if not input._aval.dtype.is_complex:
        raise RuntimeError(f"imag is not implemented for tensors with non-complex dtypes, and this one is {input._aval.dtype.name}.")
    return make_view(input, "imag", None)


def conj(input: Tensor) -> Tensor:
    """The complex conjugate; of a real tensor the tensor itself.

    >>> import adjoint as torch
    >>> torch.conj(torch.tensor([1 + 2j]))
    tensor([1.-2.j])
    """
    return record_one("conj", input, None) if input._aval.dtype.is_complex else input


def conjugate_transpose(input: Tensor) -> Tensor:
    """The last two axes exchanged, and the conjugate of every element: the adjoint of a matrix.

    >>> import adjoint as torch
    >>> torch.adjoint(torch.tensor([[1j, 2.]]))
    tensor([[0.-1.j],
            [2.-0.j]])
    """
    return conj(matrix_transpose(input))


def angle(input: Tensor) -> Tensor:
    """The angle in radians, in (-pi, pi]; of real numbers 0 or pi, and NaN of NaN.

    >>> import adjoint as torch
    >>> torch.angle(torch.tensor([1j, -1 + 0j]))
    tensor([1.5708, 3.1416])
    """
    dtype = input._aval.dtype
    if dtype.is_complex:
        return ew.functions["atan2"](record_one("imag", input, None), record_one("real", input, None))
    x = ew.to_default_float(input)
    return ew.where(x < 0, math.pi, ew.where(ew.functions["isnan"](x), x, 0.0))


def view_as_real(input: Tensor) -> Tensor:
    """A complex tensor as a real one with a last axis of length 2, sharing memory.

    >>> import adjoint as torch
    >>> torch.view_as_real(torch.tensor([1 + 2j]))
    tensor([[1., 2.]])
    """
    if not input._aval.dtype.is_complex:
        raise RuntimeError(f"view_as_real is only supported for complex tensors, not {input._aval.dtype.name}")
    return make_view(input, "as_real", None)


def view_as_complex(input: Tensor) -> Tensor:
    """A real tensor whose last axis has length 2 as a complex one, sharing memory.

    >>> import adjoint as torch
    >>> torch.view_as_complex(torch.tensor([[1., 2.]]))
    tensor([1.+2.j])
    """
    a = input._aval
    if a.dtype not in (dtypes.float32, dtypes.float64):
        raise RuntimeError(f"view_as_complex is only supported for half, float and double tensors, but got a tensor of scalar type: {dtypes.LEGACY[a.dtype]}")
    if not a.shape or a.shape[-1] != 2:
        raise RuntimeError(f"Tensor must have a last dimension of size 2, not the shape {list(a.shape)}")
    if a.strides[-1] != 1 or any(s % 2 for n, s in zip(a.shape[:-1], a.strides, strict=False) if n > 1):
        raise RuntimeError(f"Tensor must have a last dimension with stride 1 and other strides divisible by 2, not {a.strides}: use .contiguous()")
    return make_view(input, "as_complex", None)


def isreal(input: Tensor) -> Tensor:
    """Whether each element has no imaginary part.

    >>> import adjoint as torch
    >>> torch.isreal(torch.tensor([1 + 0j, 1j]))
    tensor([ True, False])
    """
    return record_one("imag", input, None) == 0 if input._aval.dtype.is_complex else input == input.detach().clone()


def is_complex(input: Tensor) -> bool:
    """Whether the dtype is complex.

    >>> import adjoint as torch
    >>> torch.is_complex(torch.tensor([1j]))
    True
    """
    return input._aval.dtype.is_complex


def is_conj(input: Tensor) -> bool:
    """Whether the tensor is a conjugate not computed yet: never, here.

    >>> import adjoint as torch
    >>> torch.is_conj(torch.tensor([1j]).conj())
    False
    """
    return False


def resolve_conj(input: Tensor) -> Tensor:
    """The tensor itself: conjugates are computed like everything else.

    >>> import adjoint as torch
    >>> torch.resolve_conj(torch.tensor([1j]))
    tensor([0.+1.j])
    """
    return input


def is_neg(input: Tensor) -> bool:
    """Whether the tensor is negated but not computed yet: never, here.

    >>> import adjoint as torch
    >>> torch.is_neg(torch.tensor([1j]).conj().imag)
    False
    """
    return False


def resolve_neg(input: Tensor) -> Tensor:
    """The tensor itself: negations are computed like everything else.

    >>> import adjoint as torch
    >>> torch.resolve_neg(torch.tensor([1j]).conj().imag)
    tensor([-1.])
    """
    return input


def conj_physical(input: Tensor) -> Tensor:
    """The same as `conj`.

    >>> import adjoint as torch
    >>> torch.conj_physical(torch.tensor([1j]))
    tensor([0.-1.j])
    """
    return conj(input)


def sgn(input: Tensor) -> Tensor:
    """`z / |z|`, and 0 at 0; of real numbers the sign.

    >>> import adjoint as torch
    >>> torch.sgn(torch.tensor([3j, 0j]))
    tensor([0.+1.j, 0.+0.j])
    """
    if not input._aval.dtype.is_complex:
        return ew.functions["sign"](input)
    size = ew.absolute(input)
    return input / ew.where(size == 0, 1.0, size)
