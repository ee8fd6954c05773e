"""Attention: the scaled dot product, and the multi-head form the layer of that name uses.

Read `scaled_dot_product_attention` first. Dropout noise is drawn here and handed to the
composite, which must not draw any itself.
"""

from __future__ import annotations

import math
from typing import Any

from numpy import broadcast_shapes

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.nn.functional.dropout import masked_by_noise
from adjoint.nn.functional.linear import linear
from adjoint.ops.composite import composite

__all__ = ["multi_head_attention_forward", "scaled_dot_product_attention"]


def _attention_weights(scores: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
    """Softmax of the scores over the keys that may be seen; a query that may see none gets zeros."""
    if scores.shape[-1] == 0:
        return scores
    if is_causal:
        queries, keys = scores.shape[-2:]
        visible = torch.ones((queries, keys), dtype=torch.bool).tril()
        scores = torch.where(visible, scores, -math.inf)
    if mask is not None:
        scores = torch.where(mask, scores, -math.inf) if mask.dtype == torch.bool else scores + mask
    largest = scores.detach().amax(-1, keepdim=True)
    if mask is not None:
        largest = torch.where(largest == -math.inf, 0.0, largest)
    e = torch.exp(scores - largest)
    total = e.sum(-1, keepdim=True)
    return e / (total if mask is None else torch.where(total == 0, 1.0, total))


@composite("ScaledDotProductAttentionBackward0")
def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    noise: Tensor | None,
    is_causal: bool,
    scale: float,
    dropout_p: float,
) -> tuple[Tensor, Tensor]:
    weights = _attention_weights((query * scale).matmul(key.transpose(-2, -1)), mask, is_causal)
    if noise is not None:
        weights = masked_by_noise(weights, noise, dropout_p)
    return weights.matmul(value), weights


@composite("ScaledDotProductAttentionBackward0")
def _attention_in_blocks(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool, scale: float
) -> Tensor:
    """The same without the matrix of scores."""
    dtype = query.dtype
    query, key, value = (x.float() if dtype.is_half else x for x in (query, key, value))
    batches = [x.shape[:-2] for x in (query, key, value, mask) if x is not None]
    batch = broadcast_shapes(*batches)
    query, key, value = (x.expand(*batch, *x.shape[-2:]) for x in (query * scale, key, value))
    if mask is not None:
        mask = mask.float() if mask.dtype.is_half else mask
        mask = mask.expand(*batch, query.shape[-2], key.shape[-2])
    out = torch._attention(query, key, value, mask, is_causal)
    return out.to(dtype) if dtype.is_half else out


_LEAST = 64  # queries, and keys, from which on blocks are faster: 1 to 1.5 times there, 1.5 to 5 at 1,024


def _suits_blocks(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> bool:
    """Whether `_attention_in_blocks` computes this, and in less time than with the scores in memory: by shapes alone."""
    dtype = query.dtype
    if not dtype.is_floating_point or key.dtype is not dtype or value.dtype is not dtype:
        return False
    if mask is not None and (mask.requires_grad or mask.dtype not in (torch.bool, dtype) or mask.dim() == 0):
        return False
    queries, keys = query.shape[-2], key.shape[-2]
    return min(queries, keys) >= _LEAST and math.prod(query.shape) * math.prod(value.shape) > 0


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
) -> tuple[Tensor, Tensor]:
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    noise = None
    if dropout_p > 0.0:
        batch = broadcast_shapes(query.shape[:-2], key.shape[:-2])
        noise = torch.rand((*batch, query.shape[-2], key.shape[-2]), dtype=torch.float32)
    return _attention(query, key, value, mask, noise, is_causal, scale, dropout_p)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(scale Q Kᵀ + mask) V (Vaswani et al., 2017, equation 1), scale = 1/sqrt(E) unless given.

    query (..., L, E), key (..., S, E), value (..., S, Ev) give (..., L, Ev). A boolean mask (broadcast to
    (..., L, S)) is True where a key may be seen, a floating one is added to the scores. With `enable_gqa`
    keys and values may have fewer heads (dimension -3) than the query, each shared by a group. A query that may see
    no key gets zeros. Raises RuntimeError when shapes do not fit or both a mask and `is_causal` are given.

    From 64 queries and keys on, without dropout and for masks that need no gradient, neither the result nor its
    gradient hold the (L, S) scores in memory (Dao et al., "FlashAttention", 2022); second derivatives do.

    >>> import adjoint as torch
    >>> v = torch.tensor([[1.0], [3.0]])
    >>> torch.nn.functional.scaled_dot_product_attention(torch.zeros(2, 4), torch.zeros(2, 4), v)
    tensor([[2.],
            [2.]])
    """
    if attn_mask is not None and is_causal:
        raise RuntimeError(
            "scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True"
        )
    if query.dim() < 2 or key.dim() < 2 or value.dim() < 2:
        raise RuntimeError(
            "scaled_dot_product_attention: query, key and value must have at least 2 dimensions, got shapes "
            f"{tuple(query.shape)}, {tuple(key.shape)} and {tuple(value.shape)}"
        )
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise RuntimeError(
            "scaled_dot_product_attention: query (..., L, E), key (..., S, E) and value (..., S, Ev) do not fit: "
            f"got {tuple(query.shape)}, {tuple(key.shape)} and {tuple(value.shape)}"
        )
    if enable_gqa:
        heads, shared = query.shape[-3], key.shape[-3]
        if heads % shared or value.shape[-3] != shared:
            raise RuntimeError(
                f"scaled_dot_product_attention: {heads} query heads cannot share {shared} key and "
                f"{value.shape[-3]} value heads"
            )
        key = key.repeat_interleave(heads // shared, -3)
        value = value.repeat_interleave(heads // shared, -3)
    return _output(query, key, value, attn_mask, dropout_p, is_causal, scale)


def _output(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
) -> Tensor:
    """The first result of `_attend`, where nobody wants the weights."""
    if dropout_p == 0.0 and _suits_blocks(query, key, value, mask):
        scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
        return _attention_in_blocks(query, key, value, mask, is_causal, scale)
    return _attend(query, key, value, mask, dropout_p, is_causal, scale)[0]


def _as_scores(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask that is True where a key is hidden, as a term to add to the scores; others as they are."""
    if mask.dtype != torch.bool:
        return mask
    return torch.where(mask, -math.inf, torch.zeros(mask.shape, dtype=dtype))


def _heads(x: Tensor, heads: int) -> Tensor:
    """(L, N, E) to (N, heads, L, E / heads)."""
    length, batch, width = x.shape
    return x.reshape(length, batch, heads, width // heads).permute(1, 2, 0, 3)


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Multi-head attention of query (L, N, E) over key and value (S, N, E); see `nn.MultiheadAttention`.

    Returns the output (L, N, E) and, with `need_weights`, the weights: (N, L, S) averaged over the heads,
    or (N, heads, L, S). In the masks, True hides a key and floating values are added. Inputs without the
    batch dimension N are accepted.
    """
    if static_k is not None or static_v is not None:
        raise NotImplementedError(
            "multi_head_attention_forward(): static_k and static_v are not supported"
        )
    batched = query.dim() == 3
    if not batched:
        query, key, value = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, batch, width = query.shape
    if width != embed_dim_to_check:
        raise AssertionError(
            f"was expecting embedding dimension of {embed_dim_to_check}, but got {width}"
        )
    if width % num_heads:
        raise AssertionError(f"embed_dim {width} not divisible by num_heads {num_heads}")
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint.")

    if not use_separate_proj_weight and in_proj_weight is None:
        raise AssertionError("use_separate_proj_weight is False but in_proj_weight is None")
    if not use_separate_proj_weight and query is key is value:
        q, k, v = linear(query, in_proj_weight, in_proj_bias).chunk(3, -1)
    else:
        weights: Any = (q_proj_weight, k_proj_weight, v_proj_weight)
        if in_proj_weight is not None and not use_separate_proj_weight:
            weights = in_proj_weight.chunk(3)
        biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
        inputs = zip((query, key, value), weights, biases, strict=True)
        q, k, v = (linear(x, w, b) for x, w, b in inputs)
    if bias_k is not None and bias_v is not None:
        k = torch.cat([k, bias_k.expand(1, batch, width)])
        v = torch.cat([v, bias_v.expand(1, batch, width)])
    q, k, v = _heads(q, num_heads), _heads(k, num_heads), _heads(v, num_heads)
    if add_zero_attn:
        nothing = torch.zeros((batch, num_heads, 1, width // num_heads), dtype=q.dtype)
        k, v = torch.cat([k, nothing], 2), torch.cat([v, nothing], 2)

    mask = _combined_mask(attn_mask, key_padding_mask, q, k, num_heads)
    dropout_p, attention = dropout_p if training else 0.0, None
    if need_weights:
        out, attention = _attend(q, k, v, mask, dropout_p, False, None)
    else:
        out = _output(q, k, v, mask, dropout_p, False, None)
    out = linear(
        out.permute(2, 0, 1, 3).reshape(length, batch, width), out_proj_weight, out_proj_bias
    )
    out = out if batched else out.squeeze(1)
    if attention is None:
        return out, None
    attention = attention.mean(1) if average_attn_weights else attention
    return out, attention if batched else attention.squeeze(0)


def _combined_mask(
    attn_mask: Tensor | None, key_padding_mask: Tensor | None, q: Tensor, k: Tensor, heads: int
) -> Tensor | None:
    """Both masks as one term added to the scores (N, heads, L, S); columns added by biases stay visible."""
    batch, length, keys = q.shape[0], q.shape[2], k.shape[2]
    total = None
    if attn_mask is not None:
        given = attn_mask.shape[-1]
        if tuple(attn_mask.shape) not in ((length, given), (batch * heads, length, given)):
            raise RuntimeError(
                f"The shape of the attn_mask is {tuple(attn_mask.shape)}, but should be ({length}, S) or "
                f"({batch * heads}, {length}, S)."
            )
        term = _as_scores(attn_mask, q.dtype)
        total = term if term.dim() == 2 else term.reshape(batch, heads, length, given)
    if key_padding_mask is not None:
        if key_padding_mask.dim() != 2 or key_padding_mask.shape[0] != batch:
            raise AssertionError(
                f"expected key_padding_mask.shape[0] to be {batch}, but got {tuple(key_padding_mask.shape)}"
            )
        term = _as_scores(key_padding_mask, q.dtype).reshape(batch, 1, 1, -1)
        total = term if total is None else total + term
    if total is not None and total.shape[-1] < keys:
        missing = keys - total.shape[-1]
        zeros = (0,) * total.dim()
        total = torch._pad(total, zeros, (*zeros[1:], missing), zeros)
    return total
