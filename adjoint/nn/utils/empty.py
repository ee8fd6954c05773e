"""`skip_init`: a module whose parameters somebody else will fill."""

from __future__ import annotations

import inspect
from typing import Any

import adjoint as torch
from adjoint.nn.module import Module


def skip_init(module_cls: type[Module], *args: Any, **kwargs: Any) -> Module:
    """`module_cls(*args, **kwargs)` without the work of its first values, which are whatever memory holds.

    No random numbers are used up. Raises RuntimeError for what is no class of modules, and for modules without the argument
    `device`, which PyTorch needs.

    >>> import adjoint as torch
    >>> layer = torch.nn.utils.skip_init(torch.nn.Linear, 5, 1)
    >>> torch.nn.init.orthogonal_(layer.weight).shape
    torch.Size([1, 5])
    """
    if not (isinstance(module_cls, type) and issubclass(module_cls, Module)):
        raise RuntimeError(f"skip_init(): Expected a Module; got {module_cls}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError(f"Module must support a 'device' arg to skip initialization; {module_cls.__name__} does not")
    state = torch.get_rng_state()
    module = module_cls(*args, **kwargs)
    torch.set_rng_state(state)
    for param in module.parameters():  # what was recorded to fill them is never computed
        param.data = torch.empty(param.shape, dtype=param.dtype)
    return module
