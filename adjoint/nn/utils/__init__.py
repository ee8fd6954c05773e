"""Functions on a model's parameters and gradients: `torch.nn.utils` by name."""

import importlib as _importlib

from adjoint.nn.utils import rnn
from adjoint.nn.utils.clip_grad import (
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
)
from adjoint.nn.utils.convert_parameters import parameters_to_vector, vector_to_parameters

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "get_total_norm",
    "parameters_to_vector",
    "rnn",
    "vector_to_parameters",
]
_LAZY_MODULES = ("parametrizations", "parametrize")  # few programs use them, and they need all of `nn`


def __getattr__(name: str) -> object:
    if name in _LAZY_MODULES:
        return _importlib.import_module(f"{__name__}.{name}")
    from adjoint.absent import absent

    raise absent(__name__, name, __dir__())


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY_MODULES})
