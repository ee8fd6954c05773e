"""The old forms of `weight_norm` and `spectral_norm`: a hook computes the weight before each call of the module.

`nn.utils.parametrizations` has both as parametrizations, which new programs use; these are for programs and state dicts
with the old names (weight_g and weight_v; weight_orig, weight_u and weight_v). Read `_Hook` first.
"""

from __future__ import annotations

from typing import Any

import adjoint as torch
from adjoint.methods import Parameter, Tensor
from adjoint.nn import functional as F
from adjoint.nn.convolution import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from adjoint.nn.module import Module
from adjoint.trace.state import warn


class _Hook:
    """Before each call of a module, sets the attribute `name` to what `compute` makes of its parameters."""

    kind: str

    def __init__(self, name: str) -> None:
        self.name = name

    def compute(self, module: Any, training: bool) -> Tensor:
        raise NotImplementedError

    def __call__(self, module: Any, args: Any) -> None:
        self.place(module, self.compute(module, module.training))

    def place(self, module: Any, weight: Tensor) -> None:
        vars(module)[self.name] = weight  # neither a parameter nor a buffer

    def parts(self) -> list[str]:
        """The parameters and buffers that stand for the weight."""
        raise NotImplementedError


def _check_new(module: Module, hook: _Hook) -> None:
    if any(h.call.kind == hook.kind and h.call.name == hook.name for h in _hooks(module)):
        raise RuntimeError(f"Cannot register two {hook.kind} hooks on the same parameter {hook.name}")


def _hooks(module: Module) -> list[Any]:
    return [h for h in module._forward_pre_hooks.values() if isinstance(h.call, _Hook)]


def _remove(module: Any, kind: str, name: str) -> Any:
    for key, hook in list(module._forward_pre_hooks.items()):
        if isinstance(hook.call, _Hook) and hook.call.kind == kind and hook.call.name == name:
            del module._forward_pre_hooks[key]
            with torch.no_grad():
                weight = hook.call.compute(module, False).detach().clone()
            vars(module).pop(name, None)
            for part in hook.call.parts():
                delattr(module, part)
            setattr(module, name, Parameter(weight))
            return module
    raise ValueError(f"{kind} of '{name}' not found in {module}")


class _WeightNorm(_Hook):
    kind = "weight_norm"

    def __init__(self, name: str, dim: int) -> None:
        super().__init__(name)
        self.dim = dim

    def parts(self) -> list[str]:
        return [f"{self.name}_g", f"{self.name}_v"]

    def norm(self, v: Tensor) -> Tensor:
        if self.dim == -1:
            return v.norm()
        return v.norm(dim=[d for d in range(v.dim()) if d != self.dim], keepdim=True) if v.dim() > 1 else v.abs()

    def compute(self, module: Any, training: bool) -> Tensor:
        g, v = (getattr(module, part) for part in self.parts())
        return v * (g / self.norm(v))


def weight_norm(module: Any, name: str = "weight", dim: int | None = 0) -> Any:
    """Length and direction of a weight as the parameters <name>_g and <name>_v; returns the module.

    The old form of `nn.utils.parametrizations.weight_norm`, which it warns about: w = g v / |v|, with a norm for each index
    along `dim`, or one of all for None. Raises AttributeError for a name that the module does not have, RuntimeError where
    it has this norm already.

    >>> import adjoint as torch
    >>> import warnings
    >>> warnings.simplefilter("ignore", FutureWarning)
    >>> sorted(torch.nn.utils.weight_norm(torch.nn.Linear(3, 4)).state_dict())
    ['bias', 'weight_g', 'weight_v']
    """
    warn("`torch.nn.utils.weight_norm` is deprecated in favor of `torch.nn.utils.parametrizations.weight_norm`.", FutureWarning)
    hook = _WeightNorm(name, -1 if dim is None else dim)
    _check_new(module, hook)
    weight = getattr(module, name)
    if not -1 <= hook.dim < weight.dim():
        raise IndexError(f"Dimension out of range (expected to be in range of [-1, {weight.dim() - 1}], but got {dim})")
    del module._parameters[name]
    with torch.no_grad():
        g = hook.norm(weight)
    module.register_parameter(f"{name}_g", Parameter(g.detach().clone()))
    module.register_parameter(f"{name}_v", Parameter(weight.detach()))
    hook.place(module, hook.compute(module, False))
    module.register_forward_pre_hook(hook)
    return module


def remove_weight_norm(module: Any, name: str = "weight") -> Any:
    """Make the weight a parameter again, with its present value; returns the module. ValueError where there is no such norm.

    >>> import adjoint as torch
    >>> import warnings
    >>> warnings.simplefilter("ignore", FutureWarning)
    >>> layer = torch.nn.utils.weight_norm(torch.nn.Linear(3, 4))
    >>> sorted(torch.nn.utils.remove_weight_norm(layer).state_dict())
    ['bias', 'weight']
    """
    return _remove(module, "weight_norm", name)


class _SpectralNorm(_Hook):
    kind = "spectral_norm"

    def __init__(self, name: str, iterations: int, eps: float, dim: int) -> None:
        super().__init__(name)
        self.iterations, self.eps, self.dim = iterations, eps, dim

    def parts(self) -> list[str]:
        return [f"{self.name}_orig", f"{self.name}_u", f"{self.name}_v"]

    def matrix(self, weight: Tensor) -> Tensor:
        return weight.movedim(self.dim, 0).flatten(1)

    def compute(self, module: Any, training: bool) -> Tensor:
        weight, u, v = (getattr(module, part) for part in self.parts())
        matrix = self.matrix(weight)
        if training:
            with torch.no_grad():
                for _ in range(self.iterations):
                    v.copy_(F.normalize(matrix.T @ u, dim=0, eps=self.eps))
                    u.copy_(F.normalize(matrix @ v, dim=0, eps=self.eps))
        u, v = u.clone(), v.clone()  # a later iteration must not change what backward needs
        return weight / torch.dot(u, matrix @ v)


def spectral_norm(module: Any, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None) -> Any:
    """A weight divided by an estimate of its largest singular value (Miyato et al., 2018); returns the module.

    The old form of `nn.utils.parametrizations.spectral_norm`: the weight is the parameter <name>_orig, the vectors of the
    power method, which go on by `n_power_iterations` in each call while training, are the buffers <name>_u and <name>_v.
    Raises KeyError for a name that the module does not have, ValueError for too few iterations, RuntimeError where it has
    this norm already.

    >>> import adjoint as torch
    >>> sorted(torch.nn.utils.spectral_norm(torch.nn.Linear(3, 4)).state_dict())
    ['bias', 'weight_orig', 'weight_u', 'weight_v']
    """
    if n_power_iterations <= 0:
        raise ValueError(f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}")
    if dim is None:
        dim = 1 if isinstance(module, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)) else 0
    hook = _SpectralNorm(name, n_power_iterations, eps, dim)
    _check_new(module, hook)
    weight = module._parameters[name]
    rows, columns = hook.matrix(weight.detach()).shape
    u, v = (F.normalize(torch.randn(size, dtype=weight.dtype), dim=0, eps=eps) for size in (rows, columns))
    del module._parameters[name]
    module.register_parameter(f"{name}_orig", weight)
    module.register_buffer(f"{name}_u", u)
    module.register_buffer(f"{name}_v", v)
    hook.place(module, weight.detach())
    module.register_forward_pre_hook(hook)
    return module


def remove_spectral_norm(module: Any, name: str = "weight") -> Any:
    """Make the weight a parameter again, with its present value; returns the module. ValueError where there is no such norm.

    >>> import adjoint as torch
    >>> layer = torch.nn.utils.spectral_norm(torch.nn.Linear(3, 4))
    >>> sorted(torch.nn.utils.remove_spectral_norm(layer).state_dict())
    ['bias', 'weight']
    """
    return _remove(module, "spectral_norm", name)
