"""`torch.types`: names for annotations.

>>> from adjoint.types import Number
>>> isinstance(2.5, Number)
True
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Sequence
from typing import Any

from adjoint.dtypes import DType
from adjoint.layouts import layout
from adjoint.methods import create_device
from adjoint.trace.handle import Tensor

__all__ = ["Device", "FileLike", "IntLikeType", "Number", "Storage", "Tensor"]

_dtype, _layout, _device = DType, layout, create_device
_bool, _int, _float, _complex = builtins.bool, builtins.int, builtins.float, builtins.complex
_TensorOrTensors = Tensor | Sequence[Tensor]
_TensorOrTensorsOrGradEdge = _TensorOrTensors
_size = Sequence[builtins.int]
_symsize = _size
_dispatchkey = str
_device_t = create_device | str | builtins.int
Number: Any = (builtins.int, builtins.float, builtins.bool)
Device = create_device | str | builtins.int | None
FileLike = str | os.PathLike[str] | Any
IntLikeType, FloatLikeType, BoolLikeType = builtins.int, builtins.float, builtins.bool
Storage = Any
