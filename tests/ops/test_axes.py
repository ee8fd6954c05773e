"""Whatever works along an axis does the same along every axis: here of four, whose orders are not their own inverses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import adjoint as torch

RNG = np.random.default_rng(3)
X = RNG.normal(size=(4, 3, 2, 5)).astype(np.float32)
ROWS = RNG.normal(size=(3, 3, 2, 5)).astype(np.float32)  # three slices of the first axis
PLACES = RNG.integers(0, 4, size=ROWS.shape)
WHERE = np.array([2, 0, 2])
ONCE = np.array([3, 0, 2])
index = torch.tensor

# name: function of (tensors with the axis moved, axis), and what they are when the axis is the first
ALONG: dict[str, tuple[Callable, tuple[np.ndarray, ...]]] = {
    "index_add": (lambda x, r, d: torch.index_add(x, d, index(WHERE), r, alpha=2), (X, ROWS)),
    "index_copy": (lambda x, r, d: torch.index_copy(x, d, index(ONCE), r), (X, ROWS)),
    "index_fill": (lambda x, d: torch.index_fill(x, d, index(WHERE), 7.0), (X,)),
    "index_reduce": (lambda x, r, d: torch.index_reduce(x, d, index(WHERE), r, "amax"), (X, ROWS)),
    "index_select": (lambda x, d: torch.index_select(x, d, index(WHERE)), (X,)),
    "gather": (lambda x, p, d: torch.gather(x, d, p), (X, PLACES)),
    "scatter": (lambda x, p, d: torch.scatter(x, d, p * 0 + 1, 7.0), (X, PLACES)),
    "scatter_add": (lambda x, p, r, d: torch.scatter_add(x, d, p, r), (X, PLACES, ROWS)),
    "scatter_reduce": (lambda x, p, r, d: torch.scatter_reduce(x, d, p, r, "mean"), (X, PLACES, ROWS)),
    "take_along_dim": (lambda x, p, d: torch.take_along_dim(x, p, d), (X, PLACES)),
    "cat": (lambda x, r, d: torch.cat([x, r], d), (X, ROWS)),
    "cumsum": (lambda x, d: torch.cumsum(x, d), (X,)),
    "cumprod": (lambda x, d: torch.cumprod(x, d), (X,)),
    "flip": (lambda x, d: torch.flip(x, (d,)), (X,)),
    "roll": (lambda x, d: torch.roll(x, 1, d), (X,)),
    "narrow": (lambda x, d: torch.narrow(x, d, 1, 2), (X,)),
    "sort": (lambda x, d: torch.sort(x, d, descending=True).values, (X,)),
    "argsort": (lambda x, d: torch.argsort(x, d), (X,)),
    "topk": (lambda x, d: torch.topk(x, 2, d).values, (X,)),
    "softmax": (lambda x, d: torch.softmax(x, d), (X,)),
    "sum": (lambda x, d: torch.sum(x, d, keepdim=True), (X,)),
    "amax": (lambda x, d: torch.amax(x, d, keepdim=True), (X,)),
    "argmax": (lambda x, d: torch.argmax(x, d, keepdim=True), (X,)),
    "var": (lambda x, d: torch.var(x, d, keepdim=True), (X,)),
    "repeat_interleave": (lambda x, d: torch.repeat_interleave(x, 2, d), (X,)),
}


@pytest.mark.parametrize("name", ALONG)
def test_every_axis_is_like_the_first(name: str) -> None:
    function, arrays = ALONG[name]
    first = function(*[torch.tensor(a) for a in arrays], 0).numpy()
    for axis in range(-4, 4):
        moved = [torch.tensor(np.ascontiguousarray(np.moveaxis(a, 0, axis))) for a in arrays]
        before = [x.numpy().copy() for x in moved]
        found = function(*moved, axis).numpy()
        np.testing.assert_allclose(found, np.moveaxis(first, 0, axis), rtol=1e-5, atol=1e-6, err_msg=f"axis {axis}")
        for x, old in zip(moved, before, strict=True):
            np.testing.assert_array_equal(x.numpy(), old)


@pytest.mark.parametrize("name", ["cummax", "cummin"])
@pytest.mark.parametrize("shape", [(9,), (9, 1), (9, 5), (3, 9)])
def test_running_extrema_are_elements_zeros_with_their_sign(name: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    axis = shape.index(9)
    given = np.where(rng.random(shape) < 0.5, 0.0, -0.0).astype(np.float32)
    found = getattr(torch.tensor(given), name)(axis)
    values = found.values.numpy()
    assert np.array_equal(np.signbit(values), np.signbit(np.take_along_axis(given, found.indices.numpy(), axis)))
