"""Attention with scores that a function changes and masks that a function says: `flex_attention`, `create_block_mask`.

A function of PyTorch's kind is of single numbers (a score, and the numbers of its batch, head, query and key); `vmap` makes it
one of all of them. Masks alone go to `scaled_dot_product_attention`, which keeps no scores; changed scores are kept.
`BlockMask` says of every block of queries by keys whether all, some or none of it is seen. Read `flex_attention`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import adjoint as torch
from adjoint.methods import Tensor

__all__ = ["AuxOutput", "AuxRequest", "BlockMask", "and_masks", "create_block_mask", "create_mask", "flex_attention", "noop_mask", "or_masks"]

_DEFAULT_SPARSE_BLOCK_SIZE = 128
_mask_mod_signature = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
_score_mod_signature = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
_PLACES = ((None, None, None, 0), (None, None, 0, None), (None, 0, None, None), (0, None, None, None))


class AuxRequest(NamedTuple):
    """What `flex_attention` should return besides: lse, the logarithm of the sum of exponentials; max_scores, the largest score."""

    lse: bool = False
    max_scores: bool = False


class AuxOutput(NamedTuple):
    """What was asked for by an `AuxRequest`, of shape (B, heads, queries); None for what was not."""

    lse: Tensor | None = None
    max_scores: Tensor | None = None


def noop_mask(batch: Tensor, head: Tensor, token_q: Tensor, token_kv: Tensor) -> Tensor:
    """The mask through which everything is seen."""
    return batch.new_ones(size=(), dtype=torch.bool, device=batch.device)


def and_masks(*mask_mods: _mask_mod_signature) -> _mask_mod_signature:
    """The mask of what all masks let through.

    >>> import adjoint as torch
    >>> from adjoint.nn.attention.flex_attention import and_masks, create_mask
    >>> near = and_masks(lambda b, h, q, k: q >= k, lambda b, h, q, k: q - k < 2)
    >>> create_mask(near, 1, 1, 3, 3, device="cpu")[0, 0].int()
    tensor([[1, 0, 0],
            [1, 1, 0],
            [0, 1, 1]], dtype=torch.int32)
    """
    _all_callable("and_masks", mask_mods)

    def mask(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
        result = b.new_ones((), dtype=torch.bool)
        for one in mask_mods:
            result = result & one(b, h, q, kv)
        return result

    return mask


def or_masks(*mask_mods: _mask_mod_signature) -> _mask_mod_signature:
    """The mask of what one of several lets through."""
    _all_callable("or_masks", mask_mods)

    def mask(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
        result = b.new_zeros((), dtype=torch.bool)
        for one in mask_mods:
            result = result | one(b, h, q, kv)
        return result

    return mask


def _all_callable(name: str, functions: tuple[Any, ...]) -> None:
    if not all(callable(f) for f in functions):
        raise RuntimeError(f"{name}(*mask_mods): All inputs should be callable mask_mods: {functions}")


def _of_all(function: Callable[..., Tensor], score: Tensor | None, sizes: tuple[int, int, int, int]) -> Tensor:
    """What a function of one score's place (and of the score) gives at all places."""
    for places in _PLACES:
        function = torch.vmap(function, in_dims=places if score is None else (0, *places))
    numbers = [torch.arange(n) for n in sizes]
    return function(*numbers) if score is None else function(score, *numbers)


def create_mask(
    mod_fn: Callable[..., Tensor], B: int | None, H: int | None, Q_LEN: int, KV_LEN: int, device: Any = None, separate_full_blocks: bool = False
) -> Tensor:
    """What `mod_fn(b, h, q_idx, kv_idx)` gives at all places, of shape (B, H, Q_LEN, KV_LEN); None is 1.

    >>> import adjoint as torch
    >>> from adjoint.nn.attention.flex_attention import create_mask
    >>> create_mask(lambda b, h, q, k: q >= k, None, None, 2, 3)[0, 0]
    tensor([[ True, False, False],
            [ True,  True, False]])
    """
    found = _of_all(mod_fn, None, (B or 1, H or 1, Q_LEN, KV_LEN))
    if found.dtype is not torch.bool:
        raise ValueError(f"create_mask(mod_fn, ...): mod_fn should give bool, such as q_idx >= kv_idx, but gives {found.dtype}")
    return found


class BlockMask:
    """Which blocks of queries and keys a mask lets through, and the mask for what lies within them.

    kv_num_blocks (B, H, blocks of queries): how many blocks of keys are seen in part; kv_indices (B, H, blocks of queries, blocks of
    keys): which, those first. full_kv_num_blocks, full_kv_indices: the same of those that are seen whole. BLOCK_SIZE: queries and keys
    of a block. mask_mod: the mask. seq_lengths: how many queries and keys there are.
    """

    def __init__(
        self, seq_lengths: tuple[int, int], kv_num_blocks: Tensor, kv_indices: Tensor, full_kv_num_blocks: Tensor | None,
        full_kv_indices: Tensor | None, BLOCK_SIZE: tuple[int, int], mask_mod: _mask_mod_signature,
    ) -> None:  # fmt: skip
        self.seq_lengths, self.BLOCK_SIZE, self.mask_mod = seq_lengths, BLOCK_SIZE, mask_mod
        self.kv_num_blocks, self.kv_indices = kv_num_blocks, kv_indices
        self.full_kv_num_blocks, self.full_kv_indices = full_kv_num_blocks, full_kv_indices

    @classmethod
    def from_kv_blocks(
        cls, kv_num_blocks: Tensor, kv_indices: Tensor, full_kv_num_blocks: Tensor | None = None, full_kv_indices: Tensor | None = None,
        BLOCK_SIZE: int | tuple[int, int] = _DEFAULT_SPARSE_BLOCK_SIZE, mask_mod: _mask_mod_signature | None = None,
        seq_lengths: tuple[int, int] | None = None, compute_q_blocks: bool = True,
    ) -> BlockMask:  # fmt: skip
        """Of the numbers of blocks and their lists. RuntimeError for lists of fewer than two axes, or full blocks given by halves."""
        if kv_indices.dim() < 2:
            raise RuntimeError("BlockMask.from_kv_blocks: BlockMask must have at least 2 dimensions")
        if (full_kv_num_blocks is None) != (full_kv_indices is None):
            raise RuntimeError("BlockMask.from_kv_blocks: full_kv_num_blocks and full_kv_indices must be both provided or omitted")
        size = (BLOCK_SIZE, BLOCK_SIZE) if isinstance(BLOCK_SIZE, int) else BLOCK_SIZE
        lengths = seq_lengths or (kv_indices.shape[-2] * size[0], kv_indices.shape[-1] * size[1])
        return cls(lengths, kv_num_blocks, kv_indices, full_kv_num_blocks, full_kv_indices, size, mask_mod or noop_mask)

    @property
    def shape(self) -> tuple[int, ...]:
        """(B, H, queries, keys)."""
        return (*self.kv_indices.shape[:-2], *self.seq_lengths)

    def numel(self) -> int:
        """How many scores there would be without the mask."""
        return math.prod(self.shape)

    def to_dense(self) -> Tensor:
        """Of shape (B, H, blocks of queries, blocks of keys): 1 for those that are seen in part or whole."""
        seen = _as_blocks(self.kv_num_blocks, self.kv_indices)
        if self.full_kv_num_blocks is not None and self.full_kv_indices is not None:
            seen = seen | _as_blocks(self.full_kv_num_blocks, self.full_kv_indices)
        return seen.int()

    def sparsity(self) -> float:
        """Percent of the blocks that are not seen.

        >>> from adjoint.nn.attention.flex_attention import create_block_mask
        >>> create_block_mask(lambda b, h, q, k: q >= k, None, None, 512, 512).sparsity()
        37.5
        """
        seen = self.to_dense()
        return 100 * (1 - seen.sum().item() / seen.numel())

    def __getitem__(self, index: Any) -> BlockMask:
        """Of some batches and heads (and blocks of queries)."""
        index = index if isinstance(index, tuple) else (index,)
        keeping = tuple([slice(i, i + 1) if isinstance(i, int) and i != -1 else slice(i, None) if isinstance(i, int) else i for i in index])
        parts = [None if t is None else t[keeping] for t in (self.kv_num_blocks, self.kv_indices, self.full_kv_num_blocks, self.full_kv_indices)]
        numbers, indices, full, full_indices = parts
        assert numbers is not None and indices is not None
        return BlockMask(self.seq_lengths, numbers, indices, full, full_indices, self.BLOCK_SIZE, self.mask_mod)

    def to(self, device: Any) -> BlockMask:
        """On the device: the CPU."""
        self.kv_indices.to(device)
        return self

    def __repr__(self) -> str:
        return f"BlockMask(shape={self.shape}, sparsity={self.sparsity():.2f}%)"


def _as_blocks(numbers: Tensor, indices: Tensor) -> Tensor:
    """Whether each block is among the first `numbers` of the list."""
    listed = torch.arange(indices.shape[-1]) < numbers.unsqueeze(-1)
    return torch.zeros(indices.shape, dtype=torch.int32).scatter(-1, indices.long(), listed.int()).bool()


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """How many are seen, and which, those first, in order."""
    order = torch.argsort(blocks.int(), dim=-1, descending=True, stable=True)
    return blocks.sum(-1).int(), order.int()


def create_block_mask(
    mask_mod: _mask_mod_signature, B: int | None, H: int | None, Q_LEN: int, KV_LEN: int, device: Any = None,
    BLOCK_SIZE: int | tuple[int, int] = _DEFAULT_SPARSE_BLOCK_SIZE, _compile: bool = False, **_named: Any,
) -> BlockMask:  # fmt: skip
    """The blocks that `mask_mod(b, h, q_idx, kv_idx)`, a function of four numbers that gives a bool, lets through.

    B, H: batches and heads that the mask tells apart; None, if it does not.

    >>> import adjoint as torch
    >>> from adjoint.nn.attention.flex_attention import create_block_mask, flex_attention
    >>> causal = create_block_mask(lambda b, h, q, k: q >= k, None, None, 3, 3)
    >>> x = torch.arange(6.0).reshape(1, 1, 3, 2)
    >>> flex_attention(x, x, x, block_mask=causal)[0, 0, 0]
    tensor([0., 1.])
    """
    if not callable(mask_mod):
        raise ValueError(f"create_block_mask(mask_mod, ...): mask_mod should be a function of (b, h, q_idx, kv_idx), not {mask_mod!r}")
    size = (BLOCK_SIZE, BLOCK_SIZE) if isinstance(BLOCK_SIZE, int) else BLOCK_SIZE
    seen = create_mask(mask_mod, B, H, Q_LEN, KV_LEN, device)
    rows, columns = -(-Q_LEN // size[0]), -(-KV_LEN // size[1])
    padded = torch.nn.functional.pad(seen, (0, columns * size[1] - KV_LEN, 0, rows * size[0] - Q_LEN))
    count = padded.reshape(*seen.shape[:2], rows, size[0], columns, size[1]).sum((3, 5))
    whole = count == size[0] * size[1]
    return BlockMask((Q_LEN, KV_LEN), *_listed((count > 0) & ~whole), *_listed(whole), size, mask_mod)


def flex_attention(
    query: Tensor, key: Tensor, value: Tensor, score_mod: _score_mod_signature | None = None, block_mask: BlockMask | None = None,
    scale: float | None = None, enable_gqa: bool = False, return_lse: bool = False, kernel_options: dict[str, Any] | None = None, *,
    return_aux: AuxRequest | None = None,
) -> Any:  # fmt: skip
    """Attention (B, heads, queries, width) whose scores go through `score_mod(score, b, h, q_idx, kv_idx)` before the softmax.

    block_mask: what is not seen through it has no part. scale: of the scores before that, 1 / sqrt(width) unless given. enable_gqa:
    several heads of queries share one of keys. return_lse: the logarithm of the sum of exponentials, (B, heads, queries), too; return_aux:
    this and more, as an `AuxOutput`. A query that sees nothing gives zeros. ValueError for operands that do not fit.

    >>> import adjoint as torch
    >>> from adjoint.nn.attention.flex_attention import flex_attention
    >>> q, k, v = torch.ones(3, 1, 2, 4, 8)
    >>> flex_attention(q, k, v, score_mod=lambda score, b, h, q, k: score - 0.1 * (q - k).abs()).shape
    torch.Size([1, 2, 4, 8])
    """
    for name, x in (("query", query), ("key", key), ("value", value)):
        if x.dim() != 4:
            raise ValueError(f"flex_attention: expected {name} to be 4 dimensional (batch, heads, length, width), but got {x.dim()}D: {tuple(x.shape)}")
    if query.dtype is not key.dtype or key.dtype is not value.dtype:
        raise ValueError(
            f"flex_attention: Expected query, key, and value to have the same dtype, but got {query.dtype}, {key.dtype} and {value.dtype}"
        )
    batch, heads, queries, width = query.shape
    keys = key.shape[-2]
    if heads != key.shape[1] and not enable_gqa:
        raise ValueError(
            f"flex_attention: query has {heads} heads and key {key.shape[1]}: Try setting enable_gqa=True, where several share one"
        )
    if block_mask is not None and tuple(block_mask.seq_lengths) != (queries, keys):
        raise ValueError(
            f"flex_attention: block_mask was created for block_mask.shape={block_mask.shape} but got q_len={queries} and kv_len={keys}; "
            "create it for these"
        )
    seen = None
    if block_mask is not None:
        seen = create_mask(block_mask.mask_mod, batch, heads, queries, keys)
    if return_lse and return_aux is not None:
        raise ValueError("flex_attention: Cannot specify both return_lse and return_aux; return_aux=AuxRequest(lse=True) says both")
    if score_mod is None and not return_lse and return_aux is None:
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, seen, scale=scale, enable_gqa=enable_gqa)
    if heads != key.shape[1]:
        key, value = (x.repeat_interleave(heads // x.shape[1], 1) for x in (key, value))
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(width) if scale is None else scale)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if score_mod is not None:
        scores = _of_all(score_mod, scores, (batch, heads, queries, keys)).to(scores.dtype)
    if seen is not None:
        scores = torch.where(seen, scores, -math.inf)
    dark = (scores == -math.inf).all(-1)
    seen_scores = torch.where(dark.unsqueeze(-1), 0.0, scores)
    weights = torch.where(dark.unsqueeze(-1), 0.0, torch.softmax(seen_scores, -1))
    out = weights.to(query.dtype) @ value
    if not return_lse and return_aux is None:
        return out
    sums = torch.where(dark, -math.inf, torch.logsumexp(seen_scores, -1))
    if return_aux is None:
        return out, sums
    return out, AuxOutput(sums if return_aux.lse else None, scores.amax(-1) if return_aux.max_scores else None)
