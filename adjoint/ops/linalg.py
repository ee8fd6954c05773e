"""Linear algebra: products of tensors, and decompositions (host steps on NumPy's LAPACK).

`matmul` follows the usual rules for vectors, matrices and broadcast batches; everything is made of the primitive
`matmul` on equal batches. `adjoint.linalg` offers the rest under PyTorch's names.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from adjoint import dtypes
from adjoint.ops import elementwise as ew
from adjoint.ops.elementwise import cast
from adjoint.ops.reduce import reduce, vector_norm
from adjoint.ops.shape import axes_of, diagonal_of, matrix_transpose, tril
from adjoint.trace.handle import Tensor
from adjoint.trace.macro import composite
from adjoint.trace.recorder import record, record_two


def _need(name: str, x: Any) -> None:
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
    try:
        a, b = input._aval.shape, other._aval.shape
    except AttributeError:
        _need("matmul", input)
        _need("matmul", other)
    if len(a) == 2 and len(b) == 2:
        return record_two("matmul", input, other)
    return general_matmul(input, other)


def general_matmul(x: Tensor, y: Tensor) -> Tensor:
    a, b = tuple(x._aval.shape), tuple(y._aval.shape)
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
        raise RuntimeError(f"expected m1 and m2 to have the same dtype, but got: {x._aval.dtype.name} != {y._aval.dtype.name}")
    return _PRODUCTS.get((len(a), len(b)), _matmul)(x, y)


def _product(x: Tensor, y: Tensor) -> Tensor:
    a, b = tuple(x._aval.shape), tuple(y._aval.shape)
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
    return out if tuple(out._aval.shape) == shape else record("reshape", (out,), shape)


_matmul = composite("MmBackward0")(_product)
_PRODUCTS = {
    (2, 1): composite("MvBackward0")(_product),
    (1, 1): composite("DotBackward0")(_product),
    (3, 3): composite("BmmBackward0")(_product),
}  # fmt: skip


def _ranks(name: str, x: Tensor, y: Tensor, p: int, q: int, words: str) -> None:
    _need(name, x)
    _need(name, y)
    if len(x._aval.shape) != p or len(y._aval.shape) != q:
        raise RuntimeError(f"{words}, but got {len(x._aval.shape)}D and {len(y._aval.shape)}D: {name} of {list(x._aval.shape)} and {list(y._aval.shape)}")


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
    return matmul(input, vec)


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """Inner product of two vectors.

    >>> import adjoint as torch
    >>> torch.dot(torch.tensor([2., 3.]), torch.tensor([2., 1.]))
    tensor(7.)
    """
    _ranks("dot", input, tensor, 1, 1, "1D tensors expected")
    return matmul(input, tensor)


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """Products of two batches of matrices: (b, n, m) by (b, m, p) gives (b, n, p). RuntimeError for other shapes.

    >>> import adjoint as torch
    >>> torch.bmm(torch.ones(2, 1, 3), torch.ones(2, 3, 1)).shape
    torch.Size([2, 1, 1])
    """
    _ranks("bmm", input, mat2, 3, 3, "batch1 must be a 3D tensor")
    if input._aval.shape[0] != mat2._aval.shape[0]:
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{input._aval.shape[0]}, {input._aval.shape[2]}] "
            f"but got: [{mat2._aval.shape[0]}, {mat2._aval.shape[1]}]."
        )
    return matmul(input, mat2)


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """All products of the elements of two vectors: (n,) and (m,) give (n, m).

    >>> import adjoint as torch
    >>> torch.outer(torch.tensor([1, 2]), torch.tensor([3, 4, 5]))
    tensor([[ 3,  4,  5],
            [ 6,  8, 10]])
    """
    return input.unsqueeze(1) * vec2.unsqueeze(0)


def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """`beta * input + alpha * (mat1 @ mat2)`.

    >>> import adjoint as torch
    >>> torch.addmm(torch.ones(2, 1), torch.eye(2), torch.tensor([[2.], [3.]]))
    tensor([[3.],
            [4.]])
    """
    product = mm(mat1, mat2)
    product = product if alpha == 1 else product * alpha
    return product + (input if beta == 1 else input * beta)


def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """`beta * input + alpha * (batch1 @ batch2)` for batches of matrices.

    >>> import adjoint as torch
    >>> torch.baddbmm(torch.ones(1, 1, 1), torch.ones(1, 1, 3), torch.ones(1, 3, 1))
    tensor([[[4.]]])
    """
    return input * beta + bmm(batch1, batch2) * alpha


def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """`beta * input + alpha * (mat @ vec)`.

    >>> import adjoint as torch
    >>> torch.addmv(torch.ones(2), torch.eye(2), torch.tensor([2., 3.]))
    tensor([3., 4.])
    """
    return input * beta + mv(mat, vec) * alpha


def kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product: every element of `input` times the whole of `other`.

    >>> import adjoint as torch
    >>> torch.kron(torch.tensor([1, 10]), torch.tensor([1, 2, 3]))
    tensor([ 1,  2,  3, 10, 20, 30])
    """
    a, b = input._aval.shape, other._aval.shape
    left = input.reshape(tuple(n for s in a for n in (s, 1)))
    right = other.reshape(tuple(n for s in b for n in (1, s)))
    return (left * right).reshape(tuple(m * n for m, n in zip(a, b, strict=True)))


def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Sum of products over pairs of axes: the last `dims` of a with the first of b, or two lists of axes.

    >>> import adjoint as torch
    >>> torch.tensordot(torch.ones(2, 3), torch.ones(3, 4), dims=1).shape
    torch.Size([2, 4])
    """
    if isinstance(dims, int):
        left, right = list(range(len(a._aval.shape) - dims, len(a._aval.shape))), list(range(dims))
    else:
        left, right = ([d % len(x._aval.shape) for d in ds] for x, ds in zip((a, b), dims, strict=True))
    keep_a = [d for d in range(len(a._aval.shape)) if d not in left]
    keep_b = [d for d in range(len(b._aval.shape)) if d not in right]
    shape_a, shape_b = [a._aval.shape[d] for d in keep_a], [b._aval.shape[d] for d in keep_b]
    inner = math.prod(a._aval.shape[d] for d in left)
    x = a.permute(*keep_a, *left).reshape(math.prod(shape_a), inner) if a._aval.shape else a.reshape(1, 1)
    y = b.permute(*right, *keep_b).reshape(inner, math.prod(shape_b)) if b._aval.shape else b.reshape(1, 1)
    return matmul(x, y).reshape((*shape_a, *shape_b))


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
        if len(term) != len(x._aval.shape):
            raise RuntimeError(f"einsum(): the subscripts {term!r} do not match an operand of shape {list(x._aval.shape)}")
        for letter, n in zip(term, x._aval.shape, strict=True):
            if sizes.setdefault(letter, n) != n and n != 1:
                if sizes[letter] != 1:
                    raise RuntimeError(f"einsum(): subscript {letter} has size {n} but an earlier operand gave it size {sizes[letter]}")
                sizes[letter] = n
    if not arrow:
        letters = sorted(set(left.replace(",", "").replace(".", "")))
        counts = {c: sum(t.count(c) for t in terms) for c in letters}
        right = right + "".join(c for c in letters if counts[c] == 1)
    done, term = tensors[0], terms[0]
    done, term = _diagonals(done, term)
    for k in range(1, len(tensors)):
        other, letters2 = _diagonals(tensors[k], terms[k])
        later = set(right).union(*terms[k + 1 :])
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
        count = len(x._aval.shape) - len(term.replace("...", ""))
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
            x = diagonal_of(x, 0, i, j)
            term = term[:i] + term[i + 1 : j] + term[j + 1 :] + c
    return x, term


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
    size = {c: n for t, v in ((a, x), (b, y)) for c, n in zip(t, v._aval.shape, strict=True)}
    shape = lambda cs: tuple(size[c] for c in cs)  # noqa: E731
    left = x.permute(*(a.index(c) for c in (*batch, *rows, *inner))) if a else x
    right = y.permute(*(b.index(c) for c in (*batch, *inner, *columns))) if b else y
    left = left.reshape((*shape(batch), math.prod(shape(rows)), math.prod(shape(inner))))
    right = right.reshape((*shape(batch), math.prod(shape(inner)), math.prod(shape(columns))))
    out = matmul(left, right).reshape((*shape(batch), *shape(rows), *shape(columns)))
    return out, "".join((*batch, *rows, *columns))


# --- decompositions ----------------------------------------------------------------------------------------------------


class QR(NamedTuple):
    Q: Tensor
    R: Tensor


class Eigh(NamedTuple):
    eigenvalues: Tensor
    eigenvectors: Tensor


class SVD(NamedTuple):
    U: Tensor
    S: Tensor
    Vh: Tensor


class Slogdet(NamedTuple):
    sign: Tensor
    logabsdet: Tensor


def _matrix(name: str, x: Tensor, square: bool = True) -> None:
    _need(f"linalg.{name}", x)
    shape = x._aval.shape
    if len(shape) < 2:
        raise RuntimeError(f"linalg.{name}: The input tensor A must have at least 2 dimensions.")
    if square and shape[-1] != shape[-2]:
        raise RuntimeError(
            f"linalg.{name}: A must be batches of square matrices, but they are {shape[-2]} by {shape[-1]} matrices"
        )
    if not x._aval.dtype.is_floating_point:
        raise RuntimeError(f"linalg.{name}: Expected a floating point or complex tensor as input. Got {x._aval.dtype.name}")


def inv(A: Tensor) -> Tensor:
    """The inverse of square matrices. Raises RuntimeError, when the value is needed, for a singular one.

    >>> import adjoint as torch
    >>> torch.linalg.inv(torch.tensor([[2., 0.], [0., 4.]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.2500]])
    """
    _matrix("inv", A)
    return record("inv", (A,))


def det(A: Tensor) -> Tensor:
    """The determinant; its gradient is det(A) inv(A)^T.

    >>> import adjoint as torch
    >>> torch.linalg.det(torch.tensor([[2., 1.], [0., 4.]]))
    tensor(8.)
    """
    _matrix("det", A)
    return record("det", (A,))


def slogdet(A: Tensor) -> Slogdet:
    """Sign and logarithm of the absolute value of the determinant.

    >>> import adjoint as torch
    >>> sign, logarithm = torch.linalg.slogdet(torch.tensor([[-1., 0.], [0., 1.]]))
    >>> sign, logarithm
    (tensor(-1.), tensor(0.))
    """
    _matrix("slogdet", A)
    both = record("slogdet", (A,))
    return Slogdet(record("pick", (both,), 0), record("pick", (both,), 1))


def logdet(A: Tensor) -> Tensor:
    """The logarithm of the determinant; NaN where that is negative.

    >>> import adjoint as torch
    >>> torch.logdet(torch.eye(2))
    tensor(0.)
    """
    sign, value = slogdet(A)
    return ew.where(sign < 0, math.nan, value)


def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X with A X = B; B may be a vector, a matrix or a batch of either.

    >>> import adjoint as torch
    >>> torch.linalg.solve(torch.tensor([[2., 0.], [0., 4.]]), torch.tensor([2., 8.]))
    tensor([1., 2.])
    """
    _matrix("solve", A)
    if not left:
        return matrix_transpose(solve(matrix_transpose(A), matrix_transpose(B)))
    vector = len(B._aval.shape) == 1 or (
        len(B._aval.shape) == len(A._aval.shape) - 1 and B._aval.shape == A._aval.shape[:-1]
    )
    right = B.unsqueeze(-1) if vector else B
    n = A._aval.shape[-1]
    if right._aval.shape[-2] != n:
        raise RuntimeError(
            f"linalg.solve: Incompatible shapes of A and B for the equation AX = B ({A._aval.shape[-2]}x{n} and "
            f"{right._aval.shape[-2]}x{right._aval.shape[-1]})"
        )
    batch = np.broadcast_shapes(tuple(A._aval.shape[:-2]), tuple(right._aval.shape[:-2]))
    A = A if tuple(A._aval.shape[:-2]) == batch else record("expand", (A,), (*batch, n, n))
    columns = right._aval.shape[-1]
    right = right if tuple(right._aval.shape[:-2]) == batch else record("expand", (right,), (*batch, n, columns))
    out = record("solve", (A, right))
    return out.squeeze(-1) if vector else out


def solve_triangular(A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    """X with `A @ X = B` (`X @ A = B` if not `left`) for triangular A.

    >>> import adjoint as torch
    >>> torch.linalg.solve_triangular(torch.tensor([[2., 0.], [1., 1.]]), torch.tensor([[2.], [3.]]), upper=False)
    tensor([[1.],
            [2.]])
    """
    from adjoint.ops.shape import triu

    T = triu(A) if upper else tril(A)
    if unitriangular:
        n = A._aval.shape[-1]
        from adjoint.ops.create import eye

        I = eye(n, dtype=A._aval.dtype)
        T = T * (1 - I) + I
    return solve(T, B, left=left)


def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """The lower triangular L with A = L L^T, for symmetric positive definite A (upper: its transpose).

    >>> import adjoint as torch
    >>> torch.linalg.cholesky(torch.tensor([[4., 2.], [2., 5.]]))
    tensor([[2., 0.],
            [1., 2.]])
    """
    _matrix("cholesky", A)
    L = record("cholesky", (A,))
    return matrix_transpose(L) if upper else L


def cholesky_solve(B: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """X with A X = B, from the Cholesky factor L of A (upper: its transpose); B is a matrix, or a batch of them.

    >>> import adjoint as torch
    >>> torch.cholesky_solve(torch.tensor([[8.]]), torch.tensor([[2.]]))
    tensor([[2.]])
    """
    _matrix("cholesky_solve", L)
    if len(B._aval.shape) < 2:
        raise RuntimeError(f"b should have at least 2 dimensions, but has {len(B._aval.shape)} dimensions instead")
    turned = matrix_transpose(L)
    first, second = (turned, L) if upper else (L, turned)
    return solve_triangular(second, solve_triangular(first, B, upper=False), upper=True)


def qr(A: Tensor, mode: str = "reduced") -> QR:
    """A = Q R with orthonormal columns in Q and upper triangular R.

    >>> import adjoint as torch
    >>> Q, R = torch.linalg.qr(torch.tensor([[3., 1.], [4., 2.]]))
    >>> torch.allclose(Q @ R, torch.tensor([[3., 1.], [4., 2.]]))
    True
    """
    _matrix("qr", A, square=False)
    if mode != "reduced":
        raise RuntimeError(f"qr received mode '{mode}': only 'reduced' is supported")
    both = record("qr", (A,))
    return QR(record("pick", (both,), 0), record("pick", (both,), 1))


def eigh(A: Tensor, UPLO: str = "L") -> Eigh:
    """Eigenvalues in ascending order and eigenvectors (columns) of symmetric matrices.

    The gradient needs distinct eigenvalues; where two are equal it is infinite or NaN.

    >>> import adjoint as torch
    >>> values, vectors = torch.linalg.eigh(torch.tensor([[2., 0.], [0., 1.]]))
    >>> values
    tensor([1., 2.])
    """
    _matrix("eigh", A)
    S = A if UPLO == "L" else matrix_transpose(A)
    both = record("eigh", (S,))
    return Eigh(record("pick", (both,), 0), record("pick", (both,), 1))


def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues of a symmetric matrix, ascending.

    >>> import adjoint as torch
    >>> torch.linalg.eigvalsh(torch.tensor([[2., 0.], [0., 1.]]))
    tensor([1., 2.])
    """
    return eigh(A, UPLO).eigenvalues


def svd(A: Tensor, full_matrices: bool = False) -> SVD:
    """A = U diag(S) Vh with singular values in descending order (reduced form).

    >>> import adjoint as torch
    >>> torch.linalg.svd(torch.tensor([[3., 0.], [0., -2.]])).S
    tensor([3., 2.])
    """
    _matrix("svd", A, square=False)
    shape = A._aval.shape
    if full_matrices and shape[-1] != shape[-2]:
        raise RuntimeError("svd(full_matrices=True) of a non-square matrix is not supported; use full_matrices=False")
    three = record("svd", (A,))
    return SVD(*(record("pick", (three,), k) for k in range(3)))


def svdvals(A: Tensor) -> Tensor:
    """The singular values, descending.

    >>> import adjoint as torch
    >>> torch.linalg.svdvals(torch.tensor([[3., 0.], [0., -4.]]))
    tensor([4., 3.])
    """
    return svd(A).S


def pinv(A: Tensor, rcond: float | None = None) -> Tensor:
    """Moore–Penrose inverse; singular values below rcond times the largest count as zero.

    >>> import adjoint as torch
    >>> torch.linalg.pinv(torch.tensor([[2., 0.], [0., 0.]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.0000]])
    """
    U, S, Vh = svd(A)
    limit = rcond if rcond is not None else max(A._aval.shape[-2:]) * float(np.finfo(A._aval.dtype.np).eps)
    keep = S > limit * S.amax(-1, keepdim=True)
    inverse = ew.where(keep, 1.0 / ew.where(keep, S, 1.0), 0.0)
    return matmul(matrix_transpose(Vh) * inverse.unsqueeze(-2), matrix_transpose(U))


class Lstsq(NamedTuple):
    """What `lstsq` returns; `singular_values` stays empty, as with PyTorch's default driver."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


def lstsq(A: Tensor, B: Tensor) -> Lstsq:
    """The X of least norm that minimises the norm of `A @ X - B`, by the pseudo-inverse.

    A (*, m, n), B (*, m, k) or (*, m). `residuals`: squared norms of the columns of A @ X - B where m > n, else empty.

    >>> import adjoint as torch
    >>> torch.linalg.lstsq(torch.tensor([[1., 0.], [1., 1.], [1., 2.]]), torch.tensor([[1.], [3.], [5.]])).solution
    tensor([[1.0000],
            [2.0000]])
    """
    m, n = A._aval.shape[-2:]
    solution = matmul(pinv(A), B)
    none = record("full", (0.0,), ((0,), A._aval.dtype))
    along = -1 if len(B._aval.shape) == 1 else -2
    residuals = ((matmul(A, solution) - B) ** 2).sum(along) if m > n else none
    return Lstsq(solution, residuals, matrix_rank(A), none)


def matrix_rank(A: Tensor, tol: float | None = None) -> Tensor:
    """How many singular values exceed the tolerance (default: the largest times size times eps).

    >>> import adjoint as torch
    >>> torch.linalg.matrix_rank(torch.tensor([[1., 2.], [2., 4.]]))
    tensor(1)
    """
    S = svdvals(A)
    limit = tol if tol is not None else S.amax(-1, keepdim=True) * (max(A._aval.shape[-2:]) * float(np.finfo(A._aval.dtype.np).eps))
    return cast(S > limit, dtypes.int64).sum(-1)


def cond(A: Tensor) -> Tensor:
    """The condition number: the largest singular value by the smallest (or by norms, with `p`).

    >>> import adjoint as torch
    >>> torch.linalg.cond(torch.tensor([[4., 0.], [0., 2.]]))
    tensor(2.)
    """
    S = svdvals(A)
    return S[..., 0] / S[..., -1]


def matrix_power(A: Tensor, n: int) -> Tensor:
    """A square matrix multiplied `n` times by itself; for negative `n` its inverse.

    >>> import adjoint as torch
    >>> torch.linalg.matrix_power(torch.tensor([[1., 1.], [0., 1.]]), 5)
    tensor([[1., 5.],
            [0., 1.]])
    """
    _matrix("matrix_power", A)
    from adjoint.ops.create import eye

    if n == 0:
        return record("expand", (eye(A._aval.shape[-1], dtype=A._aval.dtype),), tuple(A._aval.shape))
    base, out = (A, None) if n > 0 else (inv(A), None)
    k = abs(n)
    result: Tensor | None = out
    while k:
        if k & 1:
            result = base if result is None else matmul(result, base)
        base = matmul(base, base)
        k >>= 1
    assert result is not None
    return result


def linalg_vector_norm(x: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The p-norm of all elements or along `dim`; `ord` may be inf, -inf and 0 (how many are not zero).

    >>> import adjoint as torch
    >>> torch.linalg.vector_norm(torch.tensor([3., 4.]))
    tensor(5.)
    """
    return vector_norm(x, float(ord), axes_of(dim, len(x._aval.shape)), keepdim)


def linalg_norm(A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Vector norms of vectors, matrix norms of matrices ("fro", "nuc", 1, -1, 2, -2, inf, -inf)."""
    rank = len(A._aval.shape)
    if ord is None or (dim is None and rank == 1) or isinstance(dim, int):
        return linalg_vector_norm(A, 2 if ord is None else ord, dim, keepdim)
    return matrix_norm(A, ord, (-2, -1) if dim is None else dim, keepdim)


def matrix_norm(A: Tensor, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False) -> Tensor:
    """A norm of matrices: "fro", "nuc", 1, -1, 2, -2, inf or -inf.

    >>> import adjoint as torch
    >>> torch.linalg.matrix_norm(torch.tensor([[3., 0.], [0., 4.]]))
    tensor(5.)
    """
    rank = len(A._aval.shape)
    rows, columns = dim[0] % rank, dim[1] % rank
    if ord == "fro":
        return linalg_vector_norm(A, 2, (rows, columns), keepdim)
    if ord in (1, -1, math.inf, -math.inf):
        first, second = (rows, columns) if abs(ord) == 1 else (columns, rows)
        totals = ew.absolute(A).sum(first, keepdim=True)
        out = totals.amax(second, keepdim=True) if ord > 0 else totals.amin(second, keepdim=True)
        return out if keepdim else out.reshape(tuple(n for d, n in enumerate(A._aval.shape) if d not in (rows, columns)))
    S = svdvals(A.movedim((rows, columns), (-2, -1)))
    out = S.sum(-1) if ord == "nuc" else S[..., 0] if ord == 2 else S[..., -1]
    return out.unsqueeze(-1).unsqueeze(-1) if keepdim else out


def multi_dot(tensors: list[Tensor]) -> Tensor:
    """The product of several matrices; the first and the last may be vectors.

    >>> import adjoint as torch
    >>> torch.linalg.multi_dot([torch.ones(2, 3), torch.ones(3, 1), torch.ones(1, 4)]).shape
    torch.Size([2, 4])
    """
    out = tensors[0]
    for x in tensors[1:]:
        out = matmul(out, x)
    return out


def cross(input: Tensor, other: Tensor, dim: int = -1) -> Tensor:
    """The cross product of 3-vectors along an axis.

    >>> import adjoint as torch
    >>> torch.linalg.cross(torch.tensor([1., 0., 0.]), torch.tensor([0., 1., 0.]))
    tensor([0., 0., 1.])
    """
    for x in (input, other):
        if x._aval.shape[axes_of(dim, len(x._aval.shape))[0]] != 3:
            raise RuntimeError(
                f"linalg.cross: inputs dimension {dim} must have length 3. Got {list(input._aval.shape)} and "
                f"{list(other._aval.shape)}"
            )

    def part(x: Tensor, k: int) -> Tensor:
        return x.select(dim, k)

    out = [
        part(input, (k + 1) % 3) * part(other, (k + 2) % 3) - part(input, (k + 2) % 3) * part(other, (k + 1) % 3)
        for k in range(3)
    ]
    from adjoint.ops.shape import stack

    return stack(out, dim)


