"""Ready parametrizations: `torch.nn.utils.parametrizations` by name. They are modules for `parametrize`."""

from __future__ import annotations

from typing import Any

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.nn import functional as F
from adjoint.nn.convolution import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from adjoint.nn.module import Module
from adjoint.nn.utils.orthogonal import orthogonal
from adjoint.nn.utils.parametrize import register_parametrization

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]


class _WeightNorm(Module):
    """w = g v / |v|, with a norm for each index along `dim`, or one of all for -1."""

    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def _norm(self, v: Tensor) -> Tensor:
        if self.dim == -1:
            return v.norm()
        return v.norm(dim=[d for d in range(v.dim()) if d != self.dim], keepdim=True) if v.dim() > 1 else v.abs()

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        return v * (g / self._norm(v))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self._norm(weight), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Length and direction of a weight as parameters of their own (Salimans and Kingma, 2016); returns the module.

    w = g v / |v|, where |v| is taken over all axes but `dim`, or over all for None. g is
    `module.parametrizations.<name>.original0`, v is `original1`. Raises ValueError for a name that the module does not have,
    IndexError for an axis that the weight does not have.

    >>> import adjoint as torch
    >>> layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 4))
    >>> layer.parametrizations.weight.original0.shape, layer.parametrizations.weight.original1.shape
    (torch.Size([4, 1]), torch.Size([4, 3]))
    """
    weight = getattr(module, name, None)
    if isinstance(weight, Tensor) and dim is not None and not -1 <= dim < weight.dim():
        raise IndexError(f"Dimension out of range (expected to be in range of [-1, {weight.dim() - 1}], but got {dim})")
    return register_parametrization(module, name, _WeightNorm(dim), unsafe=True)


class _SpectralNorm(Module):
    """w / sigma, with the largest singular value from power iterations that go on where they were."""

    _u: Any
    _v: Any

    def __init__(self, weight: Tensor, n_power_iterations: int, dim: int, eps: float) -> None:
        super().__init__()
        if not -weight.dim() <= dim < weight.dim():
            raise IndexError(
                f"Dimension out of range (expected to be in range of [-{weight.dim()}, {weight.dim() - 1}] but got {dim})"
            )
        if n_power_iterations <= 0:
            raise ValueError(f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}")
        self.dim, self.eps, self.n_power_iterations = dim % weight.dim(), eps, n_power_iterations
        if weight.dim() > 1:
            with torch.no_grad():
                matrix = self._matrix(weight)
                for name, size in zip(("_u", "_v"), matrix.shape, strict=True):
                    self.register_buffer(name, F.normalize(torch.randn(size, dtype=weight.dtype), dim=0, eps=eps))
                self._iterate(matrix, 15)

    def _matrix(self, weight: Tensor) -> Tensor:
        return weight.movedim(self.dim, 0).flatten(1)

    def _iterate(self, matrix: Tensor, count: int) -> None:
        with torch.no_grad():
            for _ in range(count):
                self._u.copy_(F.normalize(matrix @ self._v, dim=0, eps=self.eps))
                self._v.copy_(F.normalize(matrix.T @ self._u, dim=0, eps=self.eps))

    def forward(self, weight: Tensor) -> Tensor:
        if weight.dim() == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = self._matrix(weight)
        if self.training:
            self._iterate(matrix, self.n_power_iterations)
        u, v = self._u.clone(), self._v.clone()  # a later iteration must not change what backward needs
        return weight / torch.dot(u, matrix @ v)

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def spectral_norm(
    module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Module:
    """A weight divided by its largest singular value (Miyato et al., 2018); returns the module.

    The weight counts as a matrix with the rows of axis `dim` (0; 1 for transposed convolutions). Its singular vectors, the
    buffers `_u` and `_v`, follow it by `n_power_iterations` of the power method at each use while training. A weight of
    one axis is divided by its norm. Raises ValueError for a name that the module does not have or too few iterations,
    IndexError for an axis that the weight does not have.

    >>> import adjoint as torch
    >>> layer = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(3, 4), n_power_iterations=20)
    >>> round(torch.linalg.matrix_norm(layer.weight.detach(), 2).item(), 3)
    1.0
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if dim is None:
        dim = 1 if isinstance(module, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)) else 0
    return register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, dim, eps))
