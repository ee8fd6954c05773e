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
    "fuse_conv_bn_eval",
    "fuse_conv_bn_weights",
    "fuse_linear_bn_eval",
    "fuse_linear_bn_weights",
    "get_total_norm",
    "parameters_to_vector",
    "remove_spectral_norm",
    "remove_weight_norm",
    "rnn",
    "skip_init",
    "spectral_norm",
    "vector_to_parameters",
    "weight_norm",
]
# Few programs use these, and they need all of `nn`.
_LAZY_MODULES = ("parametrizations", "parametrize", "prune")
_LAZY_NAMES = {
    **dict.fromkeys("remove_spectral_norm remove_weight_norm spectral_norm weight_norm".split(), "reweighting"),
    **dict.fromkeys("fuse_conv_bn_eval fuse_conv_bn_weights fuse_linear_bn_eval fuse_linear_bn_weights".split(), "fusion"),
    "skip_init": "empty",
}


def __getattr__(name: str) -> object:
    if name in _LAZY_MODULES:
        return _importlib.import_module(f"{__name__}.{name}")
    if name in _LAZY_NAMES:
        globals()[name] = value = getattr(_importlib.import_module(f"{__name__}.{_LAZY_NAMES[name]}"), name)
        return value
    from adjoint.absent import absent

    raise absent(__name__, name, __dir__())


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY_MODULES, *_LAZY_NAMES})
