"""Distributions of matrices: Wishart, of covariances, and LKJ, of correlations. Read `Wishart`."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.distribution import Distribution
from adjoint.distributions.exponential_family import ExponentialFamily
from adjoint.distributions.gamma_family import Chi2
from adjoint.distributions.multivariate import CovarianceForms, half_log_det
from adjoint.distributions.parameters import broadcast_all, common_shape, one_of
from adjoint.distributions.shares import Beta


class Wishart(CovarianceForms, ExponentialFamily):
    """Sums of `df` squares x x^T of normal vectors of covariance S; S as in `MultivariateNormal`.

    log p(V) = (df - k - 1) / 2 log |V| - tr(S^-1 V) / 2 - df k / 2 log 2 - df / 2 log |S| - log Gamma_k(df / 2)

    df: a number or tensor, above k - 1 for k x k matrices. Draws by Bartlett's decomposition (W. B.
    Smith, R. R. Hocking, "Wishart variate generator", Applied Statistics 21, 1972).

    >>> import adjoint as torch
    >>> d = torch.distributions.Wishart(torch.tensor(3.0), torch.eye(2))
    >>> d.mean, d.log_prob(torch.eye(2))
    (tensor([[3., 0.],
            [0., 3.]]), tensor(-3.5310))
    """

    arg_constraints: ClassVar = {
        "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
        "df": constraints.positive,
    }
    support = constraints.positive_definite
    has_rsample = True

    def __init__(
        self,
        df: Any,
        covariance_matrix: Any = None,
        precision_matrix: Any = None,
        scale_tril: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        name, matrix = one_of(
            covariance_matrix=covariance_matrix,
            precision_matrix=precision_matrix,
            scale_tril=scale_tril,
        )
        if matrix.dim() < 2 or matrix.shape[-2] != matrix.shape[-1]:
            raise ValueError(f"Wishart: {name} must be square, got shape {tuple(matrix.shape)}")
        k = matrix.shape[-1]
        df = df if isinstance(df, torch.Tensor) else torch.tensor(df, dtype=matrix.dtype)
        batch = common_shape(df.shape, matrix.shape[:-2])
        self.df = df.to(matrix.dtype).expand(batch)
        self.__dict__[name] = matrix.expand((*batch, k, k))
        super().__init__(batch, (k, k), validate_args=validate_args)
        if self._validate_args and not bool((self.df > k - 1).all()):
            raise ValueError(f"Wishart: df must be greater than {k - 1} for {k} x {k} matrices, got {df}")
        self._set_tril(name)

    @property
    def mean(self) -> Any:
        return self._factor() * self.covariance_matrix

    def _factor(self) -> Any:
        return self.df.unsqueeze(-1).unsqueeze(-1)

    @property
    def mode(self) -> Any:
        factor = self._factor() - self._event_shape[0] - 1
        return torch.where(factor > 0, factor, math.nan) * self.covariance_matrix

    @property
    def variance(self) -> Any:
        s = self.covariance_matrix
        diagonal = s.diagonal(dim1=-2, dim2=-1)
        return self._factor() * (s**2 + diagonal.unsqueeze(-1) * diagonal.unsqueeze(-2))

    def rsample(self, sample_shape: Any = ()) -> Any:
        k = self._event_shape[0]
        shape = (*sample_shape, *self._batch_shape)
        steps = torch.arange(k, dtype=self.df.dtype)
        squares = Chi2(self.df.unsqueeze(-1) - steps, validate_args=False).rsample(sample_shape)
        noise = torch.randn((*shape, k, k), dtype=self.df.dtype).tril(-1)
        root = self._unbroadcasted_scale_tril @ (noise + torch.diag_embed(squares.sqrt()))
        return root @ root.mT

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        k, half = self._event_shape[0], self.df / 2
        trace = self._trace(value)
        root = torch.linalg.cholesky(value)
        powers = (self.df - k - 1) * half_log_det(root) - self.df * half_log_det(self._unbroadcasted_scale_tril)
        return powers - trace / 2 - half * k * math.log(2) - torch.mvlgamma(half, k)

    def _trace(self, value: Any) -> Any:
        """tr(S^-1 V)."""
        return (self.precision_matrix * value).sum((-2, -1))

    def _mean_log_det(self) -> Any:
        """E[log |V|]."""
        k = self._event_shape[0]
        halves = (self.df.unsqueeze(-1) - torch.arange(k, dtype=self.df.dtype)) / 2
        return torch.digamma(halves).sum(-1) + k * math.log(2) + 2 * half_log_det(self._unbroadcasted_scale_tril)

    def entropy(self) -> Any:
        k, half = self._event_shape[0], self.df / 2
        normalizer = half * k * math.log(2) + self.df * half_log_det(self._unbroadcasted_scale_tril)
        normalizer = normalizer + torch.mvlgamma(half, k)
        return normalizer - (self.df - k - 1) / 2 * self._mean_log_det() + half * k

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        k = self._event_shape[0]
        return (-self.precision_matrix / 2, (self.df - k - 1) / 2)

    def _log_normalizer(self, *natural_params: Any) -> Any:
        matrix, power = natural_params
        k = matrix.shape[-1]
        half = power + (k + 1) / 2
        return -half * torch.logdet(-matrix) + torch.mvlgamma(half, k)

    @property
    def _mean_carrier_measure(self) -> Any:
        return torch.zeros_like(self.df)


class LKJCholesky(Distribution):
    """Cholesky factors L of `dim` x `dim` correlation matrices with p(L L^T) ~ |L L^T|^(concentration - 1).

    concentration: 1 makes all correlation matrices equally likely, more favours weak correlations.
    Draws row by row (the onion method): the squared length of a row left of the diagonal is beta
    distributed, its direction uniform (D. Lewandowski, D. Kurowicka, H. Joe, "Generating random
    correlation matrices based on vines and extended onion method", J. Multivariate Analysis 2009).

    >>> import adjoint as torch
    >>> torch.distributions.LKJCholesky(2, 1.0).log_prob(torch.eye(2))
    tensor(-0.6931)
    """

    arg_constraints: ClassVar = {"concentration": constraints.positive}
    support = constraints.corr_cholesky

    def __init__(
        self, dim: int, concentration: Any = 1.0, validate_args: bool | None = None
    ) -> None:
        if dim < 2:
            raise ValueError(f"LKJCholesky: dim must be at least 2, got {dim!r}")
        self.dim = dim
        (self.concentration,) = broadcast_all(concentration)
        super().__init__(self.concentration.shape, (dim, dim), validate_args=validate_args)

    def _rows(self) -> tuple[Any, Any]:
        """Of rows 1, 2, ...: half the number of elements left of the diagonal; the other beta shape."""
        i = torch.arange(1, self.dim, dtype=self.concentration.dtype)
        return i / 2, self.concentration.unsqueeze(-1) + (self.dim - 1 - i) / 2

    def sample(self, sample_shape: Any = ()) -> Any:
        with torch.no_grad():
            shape = self._extended_shape(sample_shape)
            squared = Beta(*self._rows(), validate_args=False).sample(sample_shape)
            direction = torch.randn((*shape[:-2], self.dim - 1, self.dim), dtype=squared.dtype).tril()
            direction = direction / direction.norm(dim=-1, keepdim=True)
            below = squared.sqrt().unsqueeze(-1) * direction
            rows = torch.cat([torch.zeros_like(below[..., :1, :]), below], -2)
            # The first row is (1, 0, ...); the diagonal takes what is left of length 1.
            left = torch.cat([torch.ones_like(squared[..., :1]), 1 - squared], -1)
            return rows + torch.diag_embed(left.clamp(min=torch.finfo(left.dtype).tiny).sqrt())

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        half, shape = self._rows()
        diagonal = value.diagonal(dim1=-2, dim2=-1)[..., 1:]
        # Of each row: the integral of (1 - |w|^2)^(shape - 1) over the unit ball.
        volumes = half * math.log(math.pi) + torch.lgamma(shape) - torch.lgamma(shape + half)
        return (2 * (shape - 1) * diagonal.log() - volumes).sum(-1)
