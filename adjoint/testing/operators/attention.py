"""Records of attention: the function, and the primitive that long sequences use. Kernels by themselves are in tests/codegen."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjoint.testing.operators.record import Draw, OpRecord, fails, sample


def weighted(q: Any, k: Any, v: Any, mask: Any = None, is_causal: bool = False, scale: float | None = None) -> np.ndarray:
    """The definition; rows that see nothing are zeros."""
    scores: Any = np.matmul(q, np.swapaxes(k, -1, -2)) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        scores = np.where(np.tri(*scores.shape[-2:]) > 0, scores, -np.inf)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    largest = scores.max(-1, keepdims=True)
    e = np.exp(scores - np.where(largest == -np.inf, 0, largest))
    total = e.sum(-1, keepdims=True)
    return np.asarray(np.matmul(e / np.where(total == 0, 1, total), v), v.dtype)


def _three(draw: Draw, batch: tuple[int, ...], queries: int, keys: int, width: int, out_width: int) -> tuple:
    return draw(*batch, queries, width), draw(*batch, keys, width), draw(*batch, keys, out_width)


def _calls(draw: Draw) -> Any:
    yield sample(*_three(draw, (), 2, 2, 1, 1))
    yield sample(*_three(draw, (1,), 2, 3, 1, 1), is_causal=True)
    yield sample(*_three(draw, (2, 1), 1, 1, 2, 1), scale=0.7)
    yield sample(*_three(draw, (), 3, 2, 1, 1), np.array([[True, False], [True, True], [False, False]]))
    yield sample(*_three(draw, (2, 3), 5, 7, 3, 4), draw(3, 5, 7))
    yield sample(*_three(draw, (2,), 67, 71, 5, 3), is_causal=True)
    yield sample(*_three(draw, (2, 1), 97, 64, 3, 17), draw.mask(97, 64))
    yield sample(*_three(draw, (3,), 64, 131, 16, 16), draw(1, 64, 131))


def _blocks(torch: Any, q: Any, k: Any, v: Any, mask: Any = None, is_causal: bool = False) -> Any:
    """The primitive, however short the sequences are."""
    if hasattr(torch, "_attention"):
        return torch._attention(q, k, v, mask, is_causal)
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, 0.0, is_causal, scale=1.0)


def _unscaled(q: Any, k: Any, v: Any, mask: Any = None, is_causal: bool = False) -> np.ndarray:
    return weighted(q, k, v, mask, is_causal, 1.0)


def _block_calls(draw: Draw) -> Any:
    yield sample(*_three(draw, (), 2, 2, 1, 1))
    yield sample(*_three(draw, (1,), 2, 3, 1, 1), is_causal=True)
    yield sample(*_three(draw, (2, 1), 1, 1, 2, 1))
    yield sample(*_three(draw, (), 3, 2, 1, 1), np.array([[True, False], [True, True], [False, False]]))
    yield sample(*_three(draw, (1,), 2, 2, 1, 1), draw(1, 2, 2))
    yield sample(*_three(draw, (2, 2), 37, 139, 5, 3), is_causal=True)


SHAPES = fails(RuntimeError, "do not fit", np.ones((2, 3)), np.ones((2, 4)), np.ones((2, 4)))

RECORDS = (
    OpRecord("scaled_dot_product_attention", _calls, weighted, lambda torch, *a, **k: torch.nn.functional.scaled_dot_product_attention(*a, **k),
             rtol=(1e-5, 1e-12), errors=(SHAPES,)),
    OpRecord("attention_in_blocks", _block_calls, _unscaled, _blocks, rtol=(1e-5, 1e-12), halves=False,
             covers=("attention", "attention_backward")),
)  # fmt: skip
