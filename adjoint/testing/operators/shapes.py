"""Samples that many records share: one operand, two that broadcast, an operand with axes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from adjoint.testing.operators.record import Draw, Sample, sample

ONE = ((), (0,), (1,), (7,), (2, 3), (5, 0, 2), (3, 1, 13), (37,))
PAIRS = (
    ((), ()),
    ((3,), ()),
    ((), (2, 3)),
    ((2, 3), (3,)),
    ((2, 1), (1, 3)),
    ((0,), (1,)),
    ((3, 0), (3, 1)),
    ((13, 1, 2), (5, 2)),
    ((1,), (31,)),
)


def one(draw: Draw) -> Iterator[Sample]:
    """A single operand over all kinds of shapes."""
    return (sample(draw(*shape)) for shape in ONE)


def two(draw: Draw) -> Iterator[Sample]:
    """Two operands that broadcast."""
    return (sample(draw(*a), draw(*b)) for a, b in PAIRS)


def second(low: float, high: float) -> Callable[[Draw], Iterator[Sample]]:
    """Two operands, the second from its own range (a divisor, an exponent)."""
    return lambda draw: (sample(draw(*a), draw(*b, low=low, high=high)) for a, b in PAIRS)


def with_number(number: Any) -> Callable[[Draw], Iterator[Sample]]:
    """A tensor and a Python number."""
    return lambda draw: (sample(draw(*shape), number) for shape in ((), (5,), (2, 3), (0,)))


def over_axes(draw: Draw) -> Iterator[Sample]:
    """A reduction: over everything, one axis, several, negative ones, kept or not."""
    yield sample(draw())
    yield sample(draw(7))
    yield sample(draw(2, 3), 0)
    yield sample(draw(2, 3), -1, keepdim=True)
    yield sample(draw(2, 3, 2), (0, 2))
    yield sample(draw(3, 1, 5), (1,), keepdim=True)
    yield sample(draw(4, 17), dim=1)
    yield sample(draw(19, 23))


def over_one_axis(draw: Draw) -> Iterator[Sample]:
    """A function along exactly one axis."""
    yield sample(draw(5), 0)
    yield sample(draw(2, 3), 0)
    yield sample(draw(2, 3), -1)
    yield sample(draw(1, 4), 0)
    yield sample(draw(3, 7, 2), 1)
    yield sample(draw(3, 37), 1)
