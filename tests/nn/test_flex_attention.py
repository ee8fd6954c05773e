"""Attention with scores that functions change, and masks that functions say, against formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest

import adjoint as torch
from adjoint.nn.attention.flex_attention import (
    AuxRequest,
    BlockMask,
    and_masks,
    create_block_mask,
    create_mask,
    flex_attention,
    or_masks,
)


def causal(b: Any, h: Any, q: Any, k: Any) -> Any:
    return q >= k


def near(b: Any, h: Any, q: Any, k: Any) -> Any:
    return (q - k).abs() < 3


def operands(heads: int = 3, queries: int = 7, keys: int = 7, shared: int = 3) -> Any:
    torch.manual_seed(0)
    sizes = (heads, queries, 4), (shared, keys, 4), (shared, keys, 5)
    return [torch.randn(2, *size, dtype=torch.float64, requires_grad=True) for size in sizes]


def formula(q: Any, k: Any, v: Any, change: Any = lambda s: s, seen: Any = True) -> Any:
    scores = change(q @ k.mT / math.sqrt(q.shape[-1]))
    return torch.softmax(torch.where(torch.as_tensor(seen), scores, -math.inf), -1) @ v


def test_changed_scores_and_their_derivatives() -> None:
    q, k, v = operands()
    table = torch.randn(3, 13, dtype=torch.float64, requires_grad=True)
    place = torch.arange(7)[:, None] - torch.arange(7) + 6
    mask = torch.tril(torch.ones(7, 7)).bool()
    found = flex_attention(q, k, v, lambda s, b, h, i, j: s + table[h, i - j + 6], create_block_mask(causal, None, None, 7, 7))
    wanted = formula(q, k, v, lambda s: s + table[:, place], mask)
    weight = torch.randn(found.shape, dtype=torch.float64)
    for a, b in zip(
        [found, *torch.autograd.grad((found * weight).sum(), (q, k, v, table))],
        [wanted, *torch.autograd.grad((wanted * weight).sum(), (q, k, v, table))],
        strict=True,
    ):
        assert torch.allclose(a, b)


def test_masks_alone() -> None:
    q, k, v = operands()
    for mod in (causal, near, and_masks(causal, near), or_masks(lambda b, h, i, j: i * 0 + j < h, near)):
        wanted = formula(q, k, v, seen=create_mask(mod, 2, 3, 7, 7))
        assert torch.allclose(flex_attention(q, k, v, block_mask=create_block_mask(mod, 2, 3, 7, 7)), wanted)


def test_who_sees_nothing_gives_zeros() -> None:
    q, k, v = operands()
    mask = create_block_mask(lambda b, h, i, j: i > j, None, None, 7, 7)
    for score_mod in (None, lambda s, b, h, i, j: s * 2):
        found = flex_attention(q, k, v, score_mod, mask)
        assert found[:, :, 0].abs().max() == 0 and not found.isnan().any()
        assert all(not g.isnan().any() for g in torch.autograd.grad(found.sum(), (q, k, v)))
    assert flex_attention(q, k, v, block_mask=mask, return_lse=True)[1][0, 0, 0] == -math.inf


def test_sums_and_largest_scores() -> None:
    q, k, v = operands(queries=5)
    scores = q @ k.mT * 0.3
    out, sums = flex_attention(q, k, v, scale=0.3, return_lse=True)
    assert torch.allclose(out, torch.softmax(scores, -1) @ v) and torch.allclose(sums, torch.logsumexp(scores, -1))
    again, aux = flex_attention(q, k, v, scale=0.3, return_aux=AuxRequest(max_scores=True))
    assert torch.equal(again, out) and aux.lse is None and torch.allclose(aux.max_scores, scores.amax(-1))


def test_heads_that_share_keys() -> None:
    q, k, v = operands(heads=6)
    for score_mod in (None, lambda s, b, h, i, j: s - h):
        found = flex_attention(q, k, v, score_mod, enable_gqa=True)
        assert torch.allclose(found, formula(q, *(x.repeat_interleave(2, 1) for x in (k, v))))


def test_blocks() -> None:
    mask = create_block_mask(and_masks(causal, lambda b, h, i, j: i - j < 5), None, None, 10, 12, BLOCK_SIZE=4)
    dense = create_mask(mask.mask_mod, 1, 1, 10, 12)[0, 0]
    seen = [[int(dense[r : r + 4, c : c + 4].any()) for c in range(0, 12, 4)] for r in range(0, 10, 4)]
    whole = [[int(dense[r : r + 4, c : c + 4].sum() == 16) for c in range(0, 12, 4)] for r in range(0, 10, 4)]
    assert mask.to_dense()[0, 0].tolist() == seen
    assert mask.full_kv_num_blocks is not None and mask.full_kv_num_blocks[0, 0].tolist() == [sum(row) for row in whole]
    assert mask.shape == (1, 1, 10, 12) and mask.numel() == 120 and "sparsity" in repr(mask)
    again = BlockMask.from_kv_blocks(mask.kv_num_blocks, mask.kv_indices, mask.full_kv_num_blocks, mask.full_kv_indices, 4, mask.mask_mod)
    assert again.seq_lengths == (12, 12) and torch.equal(again.to_dense(), mask.to_dense())
    assert create_block_mask(causal, 2, 3, 10, 12)[1].shape == (1, 3, 10, 12)


def test_wrong_calls() -> None:
    q, k, v = operands(heads=6)
    with pytest.raises(ValueError, match="enable_gqa=True"):
        flex_attention(q, k, v)
    with pytest.raises(ValueError, match="4 dimensional"):
        flex_attention(q[0], k, v)
    with pytest.raises(ValueError, match="same dtype"):
        flex_attention(q.float(), k, v, enable_gqa=True)
    with pytest.raises(ValueError, match="q_len=7"):
        flex_attention(q, k, v, enable_gqa=True, block_mask=create_block_mask(causal, None, None, 8, 7))
    with pytest.raises(ValueError, match="bool"):
        create_mask(lambda b, h, i, j: i - j, None, None, 2, 2)
