"""Products of tensors: vectors, matrices and broadcast batches, and sums of products in index notation.

Everything is made of the primitive `matmul` on equal batches; `matmul` is the usual entry, `einsum` the general one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from adjoint import dtypes
from adjoint.dtypes import float32
from adjoint.ops.complex_numbers import conj
from adjoint.ops.conversion import converted
from adjoint.ops.elementwise import cast, where
from adjoint.ops.rearrange import diagonal_of
from adjoint.ops.reduce import reduce
from adjoint.trace import autocast
from adjoint.trace.handle import Tensor
from adjoint.trace.macro import composite
from adjoint.trace.recorder import record, record_two


def need(name: str, x: Any) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}(): expected a Tensor, got {type(x).__name__}")


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The product of vectors, matrices or batches of matrices; batch axes broadcast.

    Shapes (..., m, k) and (..., k, n) give (..., m, n); a vector counts as a row on the left and a column on the right.
    Raises RuntimeError if the inner sizes differ.

    >>> import adjoint as torch
    >>> torch.matmul(torch.ones(2, 3), torch.ones(3))
    tensor([3., 3.])
    """
    if autocast.used:
        input, other = autocast.lowered(input, other)
    try:
        a, b = input._aval.key_shape, other._aval.key_shape
    except AttributeError:
        need("matmul", input)
        need("matmul", other)
    if len(a) == 2 and len(b) == 2:
        return record_two("matmul", input, other)
    return general_matmul(input, other)


def general_matmul(x: Tensor, y: Tensor) -> Tensor:
    a, b = x._aval.key_shape, y._aval.key_shape
    if not a or not b:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {len(a)}D and {len(b)}D")
    if a[-1] != (b[-2] if len(b) > 1 else b[0]):
        if len(a) == 1 and len(b) == 1:
            raise RuntimeError(f"inconsistent tensor size, expected tensor [{a[0]}] and src [{b[0]}] to have the same number of elements")
        if len(b) == 1:
            raise RuntimeError(f"size mismatch, got input ({a[-2]}), mat ({a[-2]}x{a[-1]}), vec ({b[0]})")
        rows = a[-2] if len(a) > 1 else 1
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({rows}x{a[-1]} and {b[-2]}x{b[-1]})")
    if x._aval.dtype is not y._aval.dtype:
        raise NotImplementedError(f"expected m1 and m2 to have the same dtype, but got: {x._aval.dtype.name} != {y._aval.dtype.name}")
    return _PRODUCTS.get((len(a), len(b)), _matmul)(x, y)


def _product(x: Tensor, y: Tensor) -> Tensor:
    a, b = x._aval.key_shape, y._aval.key_shape
    left = a if len(a) > 1 else (1, *a)
    right = b if len(b) > 1 else (*b, 1)
    m, k, n = left[-2], left[-1], right[-1]
    try:
        batch = np.broadcast_shapes(left[:-2], right[:-2])
    except ValueError:
        raise RuntimeError(f"matmul: the batch axes of shapes {list(a)} and {list(b)} do not broadcast") from None
    if left != a:
        x = record("reshape", (x,), left)
    if right != b:
        y = record("reshape", (y,), right)
    if len(right) == 2 and len(left) > 2:  # one matrix on the right: all rows at once
        out = record("matmul", (record("reshape", (x,), (math.prod(left[:-1]), k)), y))
    else:
        if left[:-2] != batch:
            x = record("expand", (x,), (*batch, m, k))
        if right[:-2] != batch:
            y = record("expand", (y,), (*batch, k, n))
        out = record("matmul", (x, y))
    shape = (*batch, *((m,) if len(a) > 1 else ()), *((n,) if len(b) > 1 else ()))
    return out if out._aval.key_shape == shape else record("reshape", (out,), shape)


_matmul = composite("MmBackward0")(_product)
_PRODUCTS = {
    (2, 1): composite("MvBackward0")(_product),
    (1, 1): composite("DotBackward0")(_product),
    (3, 3): composite("BmmBackward0")(_product),
}  # fmt: skip


def _ranks(name: str, x: Tensor, y: Tensor, p: int, q: int, words: str) -> None:
    need(name, x)
    need(name, y)
    if len(x._aval.key_shape) != p or len(y._aval.key_shape) != q:
        raise RuntimeError(f"{words}, but got {len(x._aval.key_shape)}D and {len(y._aval.key_shape)}D: {name} of {list(x._aval.key_shape)} and {list(y._aval.key_shape)}")


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """Product of two matrices, without broadcasting.

    >>> import adjoint as torch
    >>> torch.mm(torch.tensor([[1., 2.]]), torch.tensor([[3.], [4.]]))
    tensor([[11.]])
    """
    _ranks("mm", input, mat2, 2, 2, "self and mat2 must be matrices")
    return matmul(input, mat2)


def mv(input: Tensor, vec: Tensor) -> Tensor:
    """Product of a matrix and a vector.

    >>> import adjoint as torch
    >>> torch.mv(torch.tensor([[1., 2.], [3., 4.]]), torch.tensor([1., 1.]))
    tensor([3., 7.])
    """
    _ranks("mv", input, vec, 2, 1, "vector + matrix @ vector expected, got 1, 2, 1")
    return general_matmul(input, vec)


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """Inner product of two vectors.

    >>> import adjoint as torch
    >>> torch.dot(torch.tensor([2., 3.]), torch.tensor([2., 1.]))
    tensor(7.)
    """
    _ranks("dot", input, tensor, 1, 1, "1D tensors expected")
    return general_matmul(input, tensor)


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """Products of two batches of matrices: (b, n, m) by (b, m, p) gives (b, n, p). RuntimeError for other shapes.

    >>> import adjoint as torch
    >>> torch.bmm(torch.ones(2, 1, 3), torch.ones(2, 3, 1)).shape
    torch.Size([2, 1, 1])
    """
    _ranks("bmm", input, mat2, 3, 3, "batch1 must be a 3D tensor")
    if input._aval.key_shape[0] != mat2._aval.key_shape[0]:
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{input._aval.key_shape[0]}, {input._aval.key_shape[2]}] "
            f"but got: [{mat2._aval.key_shape[0]}, {mat2._aval.key_shape[1]}]."
        )
    return matmul(input, mat2)


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """All products of the elements of two vectors: (n,) and (m,) give (n, m).

    >>> import adjoint as torch
    >>> torch.outer(torch.tensor([1, 2]), torch.tensor([3, 4, 5]))
    tensor([[ 3,  4,  5],
            [ 6,  8, 10]])
    """
    for name, x in (("self", input), ("vec2", vec2)):
        if len(x._aval.key_shape) != 1:
            raise RuntimeError(f"outer: Expected 1-D argument {name}, but got {len(x._aval.key_shape)}-D (shape {list(x._aval.key_shape)})")
    return input.unsqueeze(1) * vec2.unsqueeze(0)


def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """`beta * input + alpha * (mat1 @ mat2)`.

    >>> import adjoint as torch
    >>> torch.addmm(torch.ones(2, 1), torch.eye(2), torch.tensor([[2.], [3.]]))
    tensor([[3.],
            [4.]])
    """
    return _scaled_sum(mm, input, mat1, mat2, beta, alpha)


def _scaled_sum(product: Callable[[Tensor, Tensor], Tensor], input: Tensor, x: Tensor, y: Tensor, beta: Any, alpha: Any) -> Tensor:
    """`beta * input + alpha * product(x, y)`, rounded once for halves. With `beta` 0 the input's values do not count, NaN among them."""
    dtype = x._aval.dtype
    alpha, beta = converted("alpha", alpha, dtype), converted("beta", beta, dtype)

    def total(input: Tensor, x: Tensor, y: Tensor) -> Tensor:
        out = product(x, y)
        out = out if alpha == 1 else out * alpha
        if input._aval.key_shape != out._aval.key_shape:
            input = input.expand(out._aval.key_shape)
        if beta == 0:
            return out + where(record("full", (True,), ((), dtypes.bool)), 0, input)
        return out + (input if beta == 1 else input * beta)

    if dtype.is_half and input._aval.dtype is dtype is y._aval.dtype:
        return cast(total(*[cast(t, float32) for t in (input, x, y)]), dtype)
    return total(input, x, y)


def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """`beta * input + alpha * (batch1 @ batch2)` for batches of matrices.

    >>> import adjoint as torch
    >>> torch.baddbmm(torch.ones(1, 1, 1), torch.ones(1, 1, 3), torch.ones(1, 3, 1))
    tensor([[[4.]]])
    """
    return _scaled_sum(bmm, input, batch1, batch2, beta, alpha)


def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """`beta * input + alpha * (mat @ vec)`.

    >>> import adjoint as torch
    >>> torch.addmv(torch.ones(2), torch.eye(2), torch.tensor([2., 3.]))
    tensor([3., 4.])
    """
    return _scaled_sum(mv, input, mat, vec, beta, alpha)


def inner(input: Tensor, other: Tensor) -> Tensor:
    """Sums of products over the last axes of both: (..., n) and (*, n) give (..., *).

    >>> import adjoint as torch
    >>> torch.inner(torch.tensor([[1., 2.], [3., 4.]]), torch.tensor([1., 10.]))
    tensor([21., 43.])
    """
    a, b = input._aval.key_shape, other._aval.key_shape
    if not a or not b:
        return input * other
    if a[-1] != b[-1]:
        raise RuntimeError(
            f"inner() the last dimension must match on both input tensors but got shapes {list(a)} and {list(b)}"
        )
    return tensordot(input, other, ([-1], [-1]))


def vdot(input: Tensor, other: Tensor) -> Tensor:
    """The product of two vectors, the first one conjugated.

    >>> import adjoint as torch
    >>> torch.vdot(torch.tensor([1., 2.]), torch.tensor([3., 4.]))
    tensor(11.)
    """
    return dot(conj(input), other)


def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """Products of vectors along an axis, the first ones conjugated; the other axes broadcast.

    >>> import adjoint as torch
    >>> torch.linalg.vecdot(torch.ones(2, 3), torch.tensor([1., 2., 3.]))
    tensor([6., 6.])
    """
    return (conj(x) * y).sum(dim)


def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """`beta * input + alpha * outer(vec1, vec2)`.

    >>> import adjoint as torch
    >>> torch.addr(torch.ones(2, 2), torch.tensor([1., 2.]), torch.tensor([3., 4.]))
    tensor([[4., 5.],
            [7., 9.]])
    """
    return _scaled_sum(outer, input, vec1, vec2, beta, alpha)


def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """`beta * input` plus alpha times the sum of the products of a batch.

    >>> import adjoint as torch
    >>> torch.addbmm(torch.zeros(1, 1), torch.ones(3, 1, 2), torch.ones(3, 2, 1))
    tensor([[6.]])
    """
    return _scaled_sum(lambda x, y: bmm(x, y).sum(0), input, batch1, batch2, beta, alpha)


def kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product: every element of `input` times the whole of `other`.

    >>> import adjoint as torch
    >>> torch.kron(torch.tensor([1, 10]), torch.tensor([1, 2, 3]))
    tensor([ 1,  2,  3, 10, 20, 30])
    """
    rank = max(len(input._aval.key_shape), len(other._aval.key_shape))
    a, b = ((1,) * (rank - len(x._aval.key_shape)) + x._aval.key_shape for x in (input, other))
    left = input.reshape(tuple(n for s in a for n in (s, 1)))
    right = other.reshape(tuple(n for s in b for n in (1, s)))
    return (left * right).reshape(tuple(m * n for m, n in zip(a, b, strict=True)))


def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Sum of products over pairs of axes: the last `dims` of a with the first of b, or two lists of axes.

    The sizes of a pair are equal, or one of them is 1, which is broadcast; RuntimeError if they are neither.

    >>> import adjoint as torch
    >>> torch.tensordot(torch.ones(2, 3), torch.ones(3, 4), dims=1).shape
    torch.Size([2, 4])
    """
    if isinstance(dims, int):
        if not 0 <= dims <= min(len(a._aval.key_shape), len(b._aval.key_shape)):
            raise RuntimeError(
                f"tensordot expects 0 <= dims <= the number of dimensions of both, but got dims={dims} for shapes "
                f"{list(a._aval.key_shape)} and {list(b._aval.key_shape)}"
            )
        left, right = list(range(len(a._aval.key_shape) - dims, len(a._aval.key_shape))), list(range(dims))
    else:
        left, right = ([d % len(x._aval.key_shape) for d in ds] for x, ds in zip((a, b), dims, strict=True))
    a, b = _contractible(a, b, left, right)
    keep_a = [d for d in range(len(a._aval.key_shape)) if d not in left]
    keep_b = [d for d in range(len(b._aval.key_shape)) if d not in right]
    shape_a, shape_b = [a._aval.key_shape[d] for d in keep_a], [b._aval.key_shape[d] for d in keep_b]
    inner = math.prod(a._aval.key_shape[d] for d in left)
    x = a.permute(*keep_a, *left).reshape(math.prod(shape_a), inner) if a._aval.key_shape else a.reshape(1, 1)
    y = b.permute(*right, *keep_b).reshape(inner, math.prod(shape_b)) if b._aval.key_shape else b.reshape(1, 1)
    return matmul(x, y).reshape((*shape_a, *shape_b))


def _contractible(a: Tensor, b: Tensor, left: list[int], right: list[int]) -> tuple[Tensor, Tensor]:
    """The operands of `tensordot` with axes of equal sizes: what meets an axis of size 1 is summed first."""
    for i, j in zip(left, right, strict=True):
        m, n = a._aval.key_shape[i], b._aval.key_shape[j]
        if m == n:
            continue
        if n == 1:
            a = reduce("sum", a, (i,), True)
        elif m == 1:
            b = reduce("sum", b, (j,), True)
        else:
            raise RuntimeError(
                f"tensordot: contracted dimensions need to match, but first has size {m} in dim {i} and second has size {n} in "
                f"dim {j} (shapes {list(a._aval.key_shape)} and {list(b._aval.key_shape)})"
            )
    return a, b


def einsum(equation: str, *operands: Any) -> Tensor:
    """Sums of products in index notation, contracted two operands at a time from the left.

    >>> import adjoint as torch
    >>> torch.einsum("ij,jk->ik", torch.ones(2, 3), torch.ones(3, 2))
    tensor([[3., 3.],
            [3., 3.]])
    """
    tensors = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else list(operands)
    return _einsum(equation.replace(" ", ""), tensors)


def _einsum(equation: str, tensors: list[Tensor]) -> Tensor:
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors):
        raise RuntimeError(f"einsum(): the equation {equation!r} has {len(terms)} operands, but {len(tensors)} were given")
    if "..." in equation:
        terms, right = _spell_ellipsis(terms, tensors, right, arrow)
    sizes: dict[str, int] = {}
    for term, x in zip(terms, tensors, strict=True):
        if len(term) != len(x._aval.key_shape):
            raise RuntimeError(f"einsum(): the subscripts {term!r} do not match an operand of shape {list(x._aval.key_shape)}")
        for letter, n in zip(term, x._aval.key_shape, strict=True):
            if sizes.setdefault(letter, n) != n and n != 1:
                if sizes[letter] != 1:
                    raise RuntimeError(f"einsum(): subscript {letter} has size {n} but an earlier operand gave it size {sizes[letter]}")
                sizes[letter] = n
    if not arrow:
        letters = sorted(set(left.replace(",", "").replace(".", "")))
        counts = {c: sum(t.count(c) for t in terms) for c in letters}
        right = right + "".join(c for c in letters if counts[c] == 1)
    for c in right:
        if c not in sizes or right.count(c) > 1:
            fault = "appears more than once in the output" if c in sizes else "does not appear in any operand"
            raise RuntimeError(f"einsum(): output subscript {c} of the equation {equation!r} {fault}; every letter after '->' names one axis")
    pairs = [_without_ones(*_diagonals(x, term), sizes) for x, term in zip(tensors, terms, strict=True)]
    done, term = pairs[0]
    for k in range(1, len(tensors)):
        other, letters2 = pairs[k]
        later = set(right).union(*[t for _, t in pairs[k + 1 :]])
        done, term = _pair(done, term, other, letters2, later)
    gone = tuple(i for i, c in enumerate(term) if c not in right)
    if gone:
        done = reduce("sum", done, gone)
        term = "".join(c for c in term if c in right)
    return done.permute(*(term.index(c) for c in right)) if term != right else done


def _spell_ellipsis(terms: list[str], tensors: list[Tensor], right: str, arrow: str) -> tuple[list[str], str]:
    free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if all(c not in t for t in terms)]
    longest = 0
    out = []
    for term, x in zip(terms, tensors, strict=True):
        count = len(x._aval.key_shape) - len(term.replace("...", ""))
        longest = max(longest, count if "..." in term else 0)
        out.append((term, count))
    names = "".join(free[:longest])
    spelled = [t.replace("...", names[longest - c :] if "..." in t else "") for t, c in out]
    return spelled, right.replace("...", names) if arrow else names


def _diagonals(x: Tensor, term: str) -> tuple[Tensor, str]:
    """Repeated letters of one operand become its diagonal."""
    for c in term:
        while term.count(c) > 1:
            i = term.index(c)
            j = term.index(c, i + 1)
            if x._aval.key_shape[i] != x._aval.key_shape[j]:
                raise RuntimeError(
                    f"einsum(): subscript {c} is repeated in {term!r}, but its sizes differ in an operand of shape {list(x._aval.key_shape)}"
                )
            x = diagonal_of(x, 0, i, j)
            term = term[:i] + term[i + 1 : j] + term[j + 1 :] + c
    return x, term


def _without_ones(x: Tensor, term: str, sizes: dict[str, int]) -> tuple[Tensor, str]:
    """An axis of size 1 that is broadcast against a longer one of another operand is left out: the product is the same."""
    ones = tuple(i for i, c in enumerate(term) if x._aval.key_shape[i] == 1 != sizes[c])
    if not ones:
        return x, term
    kept = [i for i in range(len(term)) if i not in ones]
    return x.reshape(tuple(x._aval.key_shape[i] for i in kept)), "".join(term[i] for i in kept)


def _pair(x: Tensor, a: str, y: Tensor, b: str, later: set[str]) -> tuple[Tensor, str]:
    """Contract two operands to one, keeping the letters that are needed later."""
    for letters, other in ((a, b), (b, a)):
        alone = tuple(i for i, c in enumerate(letters) if c not in other and c not in later)
        if alone:
            if letters is a:
                x, a = reduce("sum", x, alone), "".join(c for c in a if c in b or c in later)
            else:
                y, b = reduce("sum", y, alone), "".join(c for c in b if c in a or c in later)
    batch = [c for c in a if c in b and c in later]
    inner = [c for c in a if c in b and c not in later]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]
    size = {c: n for t, v in ((a, x), (b, y)) for c, n in zip(t, v._aval.key_shape, strict=True)}
    shape = lambda cs: tuple(size[c] for c in cs)  # noqa: E731
    left = x.permute(*(a.index(c) for c in (*batch, *rows, *inner))) if a else x
    right = y.permute(*(b.index(c) for c in (*batch, *inner, *columns))) if b else y
    left = left.reshape((*shape(batch), math.prod(shape(rows)), math.prod(shape(inner))))
    right = right.reshape((*shape(batch), math.prod(shape(inner)), math.prod(shape(columns))))
    product = matmul if inner else general_matmul  # the latter, of which nothing is added up, does not heed `autocast`
    out = product(left, right).reshape((*shape(batch), *shape(rows), *shape(columns)))
    return out, "".join((*batch, *rows, *columns))


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """The first result of the primitive `attention`, which `ir/prims.py` explains."""
    both = record("attention", (query, key, value) if mask is None else (query, key, value, mask), causal)
    return record("pick", (both,), 0)
