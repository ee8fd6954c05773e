"""The von Mises distribution of angles. Read `VonMises`."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.counts import values
from adjoint.distributions.distribution import Distribution
from adjoint.distributions.parameters import broadcast_all
from adjoint.utils.host_random import host_generator


class VonMises(Distribution):
    """Angles in radians around `loc`: log p(x) = k cos(x - loc) - log(2 pi I0(k)), k = `concentration`.

    Draws lie in [-pi, pi) and come from NumPy's generator, seeded by the engine's stream; they
    have no gradient. `variance` is the circular one, 1 - I1(k) / I0(k).

    >>> import adjoint as torch
    >>> torch.distributions.VonMises(0.0, 1.0).log_prob(torch.tensor(0.0))
    tensor(-1.0738)
    """

    arg_constraints: ClassVar = {"loc": constraints.real, "concentration": constraints.positive}
    support = constraints.real

    def __init__(self, loc: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.loc, self.concentration = broadcast_all(loc, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.loc

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def variance(self) -> Any:
        k = self.concentration
        return 1 - torch.special.i1e(k) / torch.special.i0e(k)

    def sample(self, sample_shape: Any = ()) -> Any:
        shape = tuple(self._extended_shape(sample_shape))
        turn = host_generator().vonmises(0.0, values(self.concentration), size=shape)
        angle = torch.tensor(turn, dtype=self.loc.dtype) + self.loc.detach()
        return (angle + math.pi) % (2 * math.pi) - math.pi

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        k = self.concentration
        # cos - 1 by the half angle, and I0 without its e^k: both keep their digits for large k.
        bend = -2 * torch.sin((value - self.loc) / 2) ** 2
        return k * bend - math.log(2 * math.pi) - torch.special.i0e(k).log()
