"""The layers under the addresses that PyTorch gives their families, for programs that import from there.

>>> from adjoint.nn.modules.batchnorm import _BatchNorm
>>> from adjoint.nn.modules.utils import _pair
>>> import adjoint as torch
>>> isinstance(torch.nn.BatchNorm2d(3), _BatchNorm), _pair(3)
(True, (3, 3))

The layers themselves are in the files of `adjoint.nn`; `_FAMILIES` says which file's classes an address has. What users
subclass or ask for by private names is in `_BASES`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

from adjoint.nn.modules import utils
from adjoint.nn.stateful import EXTRA

_FAMILIES = {
    "activation": "activations transformer",
    "adaptive": "adaptive",
    "batchnorm": "normalization lazy",
    "channelshuffle": "reshaping",
    "container": "containers",
    "conv": "convolution lazy",
    "distance": "distance",
    "dropout": "dropout",
    "flatten": "reshaping",
    "fold": "reshaping",
    "instancenorm": "normalization lazy",
    "lazy": "lazy",
    "linear": "linear lazy",
    "loss": "losses margins",
    "module": "module",
    "normalization": "normalization",
    "padding": "reshaping",
    "pixelshuffle": "reshaping",
    "pooling": "pooling",
    "rnn": "recurrent",
    "sparse": "linear",
    "transformer": "transformer",
    "upsampling": "reshaping",
}
_BASES = {
    "batchnorm": {"_NormBase": "_RunningNorm"},
    "conv": {"_ConvNd": "_Convolution", "_ConvTransposeNd": "_Transposed"},
    "dropout": {"_DropoutNd": "_Dropout"},
    "instancenorm": {"_NormBase": "_RunningNorm"},
    "module": {"_IncompatibleKeys": "IncompatibleKeys"},
    "pooling": {"_MaxPoolNd": "_MaxPool", "_AdaptiveAvgPoolNd": "_AdaptiveAvg", "_AdaptiveMaxPoolNd": "_AdaptiveMax", "_LPPoolNd": "_LPPool"},
}


def _family(address: str) -> ModuleType:
    """The classes of a family, as a module that can be imported from."""
    module = ModuleType(f"{__name__}.{address}", f"The layers that PyTorch has in torch.nn.modules.{address}.")
    for file in _FAMILIES[address].split():
        layers = import_module(f"adjoint.nn.{file}")
        vars(module).update({n: v for n, v in vars(layers).items() if isinstance(v, type)})
    for name, own in _BASES.get(address, {}).items():
        vars(module)[name] = vars(module)[own]
    if address == "module":
        vars(module)["_EXTRA_STATE_KEY_SUFFIX"] = EXTRA
    return module


for _address in _FAMILIES:
    globals()[_address] = sys.modules[f"{__name__}.{_address}"] = _family(_address)

__all__ = [*_FAMILIES, "utils"]


def __getattr__(name: str) -> object:
    from adjoint import nn

    return getattr(nn, name)
