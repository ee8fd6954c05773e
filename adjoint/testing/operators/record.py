"""What one operator's record is: how to call it, on what, and what must come out.

An `OpRecord` is a row of the tables in this folder; tests are generated from it (tests/ops, tests/grad). It knows
nothing of Adjoint: `call(torch, *args, **options)` takes the tensor library as an argument, so that the same row is run
by Adjoint in either mode and by PyTorch. `Draw` makes the random arrays of a sample; read `OpRecord`, then `Draw`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

FLOATS = ("float32", "float64")
INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
NUMBERS = ("int32", "int64", *FLOATS)
EVERY = ("bool", *INTEGERS, *FLOATS)
SMALL = 12  # elements; larger samples are left out of derivative checks


@dataclass(frozen=True)
class Sample:
    """The arguments of one call; arrays among `args` (also inside lists and tuples) become tensors."""

    args: tuple
    options: dict[str, Any] = field(default_factory=dict)

    def arrays(self) -> list[np.ndarray]:
        return list(_arrays(self.args)) + list(_arrays(tuple(self.options.values())))

    def describe(self) -> str:
        """The arguments in short: arrays by shape and dtype where they are long."""
        given = [*map(_brief, self.args), *(f"{k}={_brief(v)}" for k, v in self.options.items())]
        return "(" + ", ".join(given) + ")"

    def is_small(self) -> bool:
        floats = [a for a in self.arrays() if a.dtype.kind == "f"]
        return 0 < sum(a.size for a in floats) <= SMALL


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size > SMALL:
        return f"{value.dtype}{list(value.shape)}"
    return repr(value)


def _arrays(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, (tuple, list)):
        for v in value:
            yield from _arrays(v)


def sample(*args: Any, **options: Any) -> Sample:
    return Sample(args, options)


@dataclass(frozen=True)
class Failure:
    """A wrong call: the exception PyTorch raises for it, and a fragment of Adjoint's message."""

    args: tuple
    exception: type[Exception]
    fragment: str
    options: dict[str, Any] = field(default_factory=dict)


def fails(exception: type[Exception], fragment: str, *args: Any, **options: Any) -> Failure:
    return Failure(args, exception, fragment, options)


class Draw:
    """Random arrays of one dtype from a record's domain, the same at every run.

    Floating numbers are stratified: no two elements of an array are equal or nearly so, and none is near a point of
    `avoid`, so that difference quotients do not straddle a kink or a tie.
    """

    def __init__(
        self, name: str, dtype: str, domain: tuple[float, float], avoid: tuple[float, ...] = ()
    ) -> None:
        self.random = np.random.default_rng(zlib.crc32(f"{name} {dtype}".encode()))
        self.dtype, self.domain, self.avoid = np.dtype(dtype), domain, avoid

    def __call__(
        self, *shape: int, low: float | None = None, high: float | None = None
    ) -> np.ndarray:
        """An array of this draw's dtype."""
        lowest = self.domain[0] if low is None else low
        highest = self.domain[1] if high is None else high
        if self.dtype.kind == "b":
            return self.mask(*shape)
        if self.dtype.kind in "iu":
            bottom = max(lowest, 0) if self.dtype.kind == "u" else lowest
            return self.random.integers(
                int(np.ceil(bottom)), int(np.floor(max(highest, bottom + 1))) + 1, shape
            ).astype(self.dtype)
        return self.floats(shape, lowest, highest).astype(self.dtype)

    def floats(self, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
        n = int(np.prod(shape))
        places = (self.random.permutation(n) + self.random.uniform(0.3, 0.7, n)) / max(n, 1)
        values = low + (high - low) * places
        for point in self.avoid:
            near = np.abs(values - point) < 0.02
            values = np.where(near, point + np.where(values >= point, 0.04, -0.04), values)
        return values.reshape(shape)

    def integers(self, low: int, high: int, *shape: int, dtype: str = "int64") -> np.ndarray:
        """Integers in [low, high), for indices."""
        return np.asarray(self.random.integers(low, high, shape)).astype(dtype)

    def mask(self, *shape: int) -> np.ndarray:
        return np.asarray(self.random.random(shape) < 0.5)

    def repeated(self, *shape: int) -> np.ndarray:
        """Small whole numbers with many ties."""
        return np.asarray(self.random.integers(0, 3, shape)).astype(self.dtype)


Samples = Callable[[Draw], Iterable[Sample]]


@dataclass(frozen=True)
class OpRecord:
    """One operator.

    name: the public function ("linalg.inv" for one of a module), or any name if `call` is given.
    samples: arguments over shapes 0-d, zero-size, size 1, primes, broadcast.
    reference: the same in NumPy; None where PyTorch alone judges.
    dtypes: for which the samples are drawn.  domain, avoid: of the numbers drawn.
    differentiable: whether derivatives exist (checked to second order unless `second` is False).
    exact: compiled and reference mode agree to the bit.  rtol: relative tolerance, by dtype, where they do not.
    method, in_place: names of the Tensor methods that must agree ("" for none).
    torch: whether PyTorch has the same; a string says why not.
    any_layout: whether operands may be non-contiguous.
    halves: whether it takes float16 and bfloat16 wherever it takes float32, and gives the same, rounded.
    covers: further public names, methods or primitives that this record exercises.
    """

    name: str
    samples: Samples
    reference: Callable[..., Any] | None = None
    call: Callable[..., Any] | None = None
    dtypes: tuple[str, ...] = FLOATS
    domain: tuple[float, float] = (-2.0, 2.0)
    avoid: tuple[float, ...] = ()
    differentiable: bool = True
    second: bool = True
    exact: bool = False
    rtol: tuple[float, float] = (3e-6, 1e-13)  # float32, float64
    method: str = ""
    in_place: str = ""
    torch: bool | str = True
    any_layout: bool = True
    halves: bool = True
    errors: tuple[Failure, ...] = ()
    covers: tuple[str, ...] = ()

    def run(self, torch: Any, *args: Any, **options: Any) -> Any:
        """Call the operator of the library `torch`."""
        if self.call is not None:
            return self.call(torch, *args, **options)
        function: Any = torch
        for part in self.name.split("."):
            function = getattr(function, part)
        return function(*args, **options)

    def draw(self, dtype: str) -> list[Sample]:
        return list(self.samples(Draw(self.name, dtype, self.domain, self.avoid)))

    def tolerance(self, dtype: Any) -> float:
        return self.rtol[0] if np.dtype(dtype).itemsize < 8 else self.rtol[1]


def tensors(torch: Any, value: Any, make: Callable[[Any, np.ndarray], Any] | None = None) -> Any:
    """Arguments with every array replaced by a tensor of the library (by `make`, or a copy)."""
    if isinstance(value, np.ndarray):
        return torch.tensor(value) if make is None else make(torch, value)
    if isinstance(value, (list, tuple)):
        return type(value)(tensors(torch, v, make) for v in value)
    if isinstance(value, dict):
        return {k: tensors(torch, v, make) for k, v in value.items()}
    return value


def leaf(torch: Any, array: np.ndarray) -> Any:
    """A tensor that requires grad if it can."""
    return torch.tensor(array, requires_grad=array.dtype.kind == "f")


def strided(torch: Any, array: np.ndarray) -> Any:
    """A tensor of the same value whose elements do not lie in order: every second of a reversed-axes copy."""
    if array.ndim == 0:
        return torch.tensor(array)
    axes = tuple(reversed(range(array.ndim)))
    doubled = np.repeat(np.transpose(array, axes), 2, axis=0)
    return torch.tensor(np.ascontiguousarray(doubled))[::2].permute(*axes)


def flat(value: Any) -> list[Any]:
    """The tensors of a result, in order."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return []
    if isinstance(value, (list, tuple)):
        return [t for v in value for t in flat(v)]
    return [value]
