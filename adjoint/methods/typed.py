"""`torch.FloatTensor`, `torch.LongTensor` and their like: names from PyTorch's first years that stand for a dtype.

They make tensors, are asked about with `isinstance`, and name a dtype for `Tensor.type` and `set_default_tensor_type`.
"""

from __future__ import annotations

from typing import Any

from adjoint import dtypes
from adjoint.dtypes import DType
from adjoint.methods.kinds import make_new
from adjoint.ops import create
from adjoint.trace.handle import Tensor


class TensorType(type):
    """The class of these names: `isinstance(x, torch.LongTensor)` asks for the dtype of x."""

    dtype: DType

    def __call__(cls, *args: Any, device: Any = None) -> Tensor:
        create.check_device(device)
        if args and isinstance(args[0], Tensor) and args[0].dtype is not cls.dtype:
            raise TypeError(
                f"{cls.__name__}: the data are a tensor of {args[0].dtype}, but this type takes {cls.dtype} only; use .to({cls.dtype})"
            )
        if len(args) == 1 and isinstance(args[0], float | complex | str | bytes):
            raise TypeError(
                f"{cls.__name__}: data must be a sequence (got {type(args[0]).__name__}); use torch.tensor({args[0]!r}, dtype={cls.dtype})"
            )
        return make_new(create.empty(0, dtype=cls.dtype), *args)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and instance.dtype is cls.dtype


def tensor_type(name: str) -> TensorType:
    """The type called `name`, such as "LongTensor", which makes tensors of one dtype: of the data given, or of the sizes.

    Sizes give zeros, where PyTorch has what was in the memory. Raises TypeError for data that are a single number or a
    tensor of another dtype.

    >>> import adjoint as torch
    >>> torch.LongTensor([1, 2]), torch.FloatTensor(2, 3).shape, isinstance(torch.ones(1), torch.FloatTensor)
    (tensor([1, 2]), torch.Size([2, 3]), True)
    """
    dtype = dtypes.TENSOR_TYPES[name]
    return TensorType(name, (), {"dtype": dtype, "__module__": "torch", "__doc__": f"Tensors of {dtype}; see `torch.tensor`."})
