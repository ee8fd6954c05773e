"""Transforms of vectors and matrices. Read `StickBreakingTransform`.

With k - 1 or k (k - 1) / 2 free numbers as arguments they are bijective; the softmax, which takes k
for a vector of shares, is not.
"""

from __future__ import annotations

import math
from typing import Any

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.parameters import softplus
from adjoint.distributions.transforms.transform import Fixed, Transform, enough_dimensions


class ReshapeTransform(Transform):
    """The trailing dimensions `in_shape` as `out_shape`, with as many elements.

    >>> import adjoint as torch
    >>> torch.distributions.ReshapeTransform((4,), (2, 2))(torch.ones(3, 4)).shape
    torch.Size([3, 2, 2])
    """

    bijective = True

    def __init__(self, in_shape: Any, out_shape: Any, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.in_shape, self.out_shape = torch.Size(in_shape), torch.Size(out_shape)
        if self.in_shape.numel() != self.out_shape.numel():
            raise ValueError(
                f"ReshapeTransform: in_shape {tuple(in_shape)} and out_shape {tuple(out_shape)} "
                "have different numbers of elements"
            )

    @property
    def domain(self) -> Any:  # type: ignore[override]
        return constraints.independent(constraints.real, len(self.in_shape))

    @property
    def codomain(self) -> Any:  # type: ignore[override]
        return constraints.independent(constraints.real, len(self.out_shape))

    def _call(self, x: Any) -> Any:
        return x.reshape(self.forward_shape(x.shape))

    def _inverse(self, y: Any) -> Any:
        return y.reshape(self.inverse_shape(y.shape))

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        kept = x.dim() - len(self.in_shape)
        return torch.zeros(x.shape[:kept], dtype=x.dtype)

    def forward_shape(self, shape: Any) -> Any:
        return _exchanged(self, shape, self.in_shape, self.out_shape)

    def inverse_shape(self, shape: Any) -> Any:
        return _exchanged(self, shape, self.out_shape, self.in_shape)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ReshapeTransform)
            and self.in_shape == other.in_shape
            and self.out_shape == other.out_shape
        )

    __hash__ = object.__hash__


def _exchanged(transform: Transform, shape: Any, old: Any, new: Any) -> Any:
    kept = len(shape) - len(old)
    if tuple(shape[max(kept, 0) :]) != tuple(old):
        raise ValueError(
            f"{type(transform).__name__}: the shape must end in {tuple(old)}, got {tuple(shape)}"
        )
    return torch.Size((*shape[:kept], *new))


class SoftmaxTransform(Fixed):
    """y = softmax(x) over the last dimension; the inverse is log y, one of many.

    >>> import adjoint as torch
    >>> torch.distributions.SoftmaxTransform()(torch.zeros(4))
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """

    domain = constraints.real_vector
    codomain = constraints.simplex

    def _call(self, x: Any) -> Any:
        return torch.softmax(x, -1)

    def _inverse(self, y: Any) -> Any:
        return y.log()

    def forward_shape(self, shape: Any) -> Any:
        enough_dimensions(self, shape, 1)
        return torch.Size(shape)

    inverse_shape = forward_shape


class StickBreakingTransform(Fixed):
    """k - 1 numbers to k shares: share i is the part sigmoid(x_i - log(k - 1 - i)) of what is left.

    All x = 0 gives equal shares.

    >>> import adjoint as torch
    >>> torch.distributions.StickBreakingTransform()(torch.zeros(3))
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """

    domain = constraints.real_vector
    codomain = constraints.simplex
    bijective = True

    def _shifted(self, x: Any) -> Any:
        n = x.shape[-1]
        return x - torch.arange(n, 0, -1, dtype=x.dtype).log()

    def _call(self, x: Any) -> Any:
        z = self._shifted(x)
        # Logarithms of what is broken off and of what stays: products over many pieces underflow.
        left = -softplus(z).cumsum(-1)
        zero = torch.zeros_like(z[..., :1])
        before = torch.cat([zero, left[..., :-1]], -1)
        return torch.cat([before - softplus(-z), left[..., -1:]], -1).exp()

    def _inverse(self, y: Any) -> Any:
        # What is left after piece i is the sum of all later ones: no difference loses digits.
        left = y.flip(-1).cumsum(-1).flip(-1)[..., 1:]
        left = left.clamp(min=torch.finfo(y.dtype).tiny)
        n = left.shape[-1]
        return y[..., :-1].log() - left.log() + torch.arange(n, 0, -1, dtype=y.dtype).log()

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        # dy_i/dx_i = y_i (1 - z_i), and the matrix is triangular.
        return (y[..., :-1].log() - softplus(self._shifted(x))).sum(-1)

    def forward_shape(self, shape: Any) -> Any:
        enough_dimensions(self, shape, 1)
        return torch.Size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape: Any) -> Any:
        enough_dimensions(self, shape, 1)
        return torch.Size((*shape[:-1], shape[-1] - 1))


class CorrCholeskyTransform(Fixed):
    """k (k - 1) / 2 numbers to the Cholesky factor, k x k, of a correlation matrix.

    t = tanh(x) are the canonical partial correlations below the diagonal, row by row: each is the
    share of the length that the numbers before it in its row have left (D. Lewandowski et al.,
    "Generating random correlation matrices based on vines and extended onion method", 2009).

    >>> import adjoint as torch
    >>> torch.distributions.CorrCholeskyTransform()(torch.zeros(1))
    tensor([[1., 0.],
            [0., 1.]])
    """

    domain = constraints.real_vector
    codomain = constraints.corr_cholesky
    bijective = True

    def _call(self, x: Any) -> Any:
        k = self.forward_shape(x.shape)[-1]
        row, column = _below_diagonal(k)
        x = _spread(x, row, column, k)
        # Half the logarithm of 1 - t^2, summed along the row: the length that is left.
        left = (math.log(2) - x - softplus(-2 * x)).cumsum(-1)
        before = torch.cat([torch.zeros_like(left[..., :1]), left[..., :-1]], -1).exp()
        # tanh is 0 on the diagonal and above; the diagonal takes all that is left.
        return (torch.tanh(x) * before).tril(-1) + torch.diag_embed(
            before.diagonal(dim1=-2, dim2=-1)
        )

    def _left(self, y: Any) -> Any:
        """Squared length of each row from its element j on: sums from the right lose no digits."""
        return (y * y).flip(-1).cumsum(-1).flip(-1)

    def _inverse(self, y: Any) -> Any:
        row, column = _below_diagonal(y.shape[-1])
        left = self._left(y)
        here, after = y[..., row, column], left[..., row, column + 1]
        # atanh(y / sqrt(left)) = asinh(y / sqrt(what is left after it)).
        return torch.asinh(here / after.sqrt())

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        row, column = _below_diagonal(y.shape[-1])
        # dy/dx = (1 - t^2) times the length left before, and the matrix is triangular.
        shrink = 2 * (math.log(2) - x - softplus(-2 * x)).sum(-1)
        lengths = self._left(y)[..., row, column].log().sum(-1)
        return shrink + 0.5 * lengths

    def forward_shape(self, shape: Any) -> Any:
        enough_dimensions(self, shape, 1)
        n = shape[-1]
        k = (1 + math.isqrt(1 + 8 * n)) // 2
        if k * (k - 1) // 2 != n:
            raise ValueError(
                f"CorrCholeskyTransform: a k x k matrix needs k (k - 1) / 2 numbers, got {n}"
            )
        return torch.Size((*shape[:-1], k, k))

    def inverse_shape(self, shape: Any) -> Any:
        enough_dimensions(self, shape, 2)
        if shape[-2] != shape[-1]:
            raise ValueError(f"CorrCholeskyTransform: not square: {tuple(shape)}")
        return torch.Size((*shape[:-2], shape[-1] * (shape[-1] - 1) // 2))


def _below_diagonal(k: int) -> tuple[Any, Any]:
    row, column = torch.tril_indices(k, k, -1)
    return row, column


def _spread(values: Any, row: Any, column: Any, k: int) -> Any:
    """A vector's elements below the diagonal of a k x k matrix of zeros, row by row."""
    place = torch.zeros(k, k, dtype=torch.int64)
    place[row, column] = torch.arange(1, values.shape[-1] + 1)
    padded = torch.cat([torch.zeros_like(values[..., :1]), values], -1)
    return padded[..., place]


class LowerCholeskyTransform(Fixed):
    """A matrix to a lower-triangular one with a positive diagonal: its exponential, and what lies below.

    >>> import adjoint as torch
    >>> torch.distributions.LowerCholeskyTransform()(torch.tensor([[0.0, 5.0], [2.0, 0.0]]))
    tensor([[1., 0.],
            [2., 1.]])
    """

    domain = constraints.independent(constraints.real, 2)
    codomain = constraints.lower_cholesky

    def _call(self, x: Any) -> Any:
        return x.tril(-1) + torch.diag_embed(x.diagonal(dim1=-2, dim2=-1).exp())

    def _inverse(self, y: Any) -> Any:
        return y.tril(-1) + torch.diag_embed(y.diagonal(dim1=-2, dim2=-1).log())


class PositiveDefiniteTransform(Fixed):
    """A matrix to a positive-definite one, L L^T with L of `LowerCholeskyTransform`.

    >>> import adjoint as torch
    >>> torch.distributions.PositiveDefiniteTransform()(torch.zeros(2, 2))
    tensor([[1., 0.],
            [0., 1.]])
    """

    domain = constraints.independent(constraints.real, 2)
    codomain = constraints.positive_definite

    def _call(self, x: Any) -> Any:
        lower = LowerCholeskyTransform()(x)
        return lower @ lower.mT

    def _inverse(self, y: Any) -> Any:
        return LowerCholeskyTransform()._inverse(torch.linalg.cholesky(y))
