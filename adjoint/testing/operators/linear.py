"""Records of linear algebra: products, decompositions, norms of matrices."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from adjoint.testing.operators.record import NUMBERS, Draw, OpRecord, fails, sample

TOLERANCE = (2e-5, 1e-11)


def products(*pairs: tuple) -> Any:
    return lambda draw: (sample(draw(*a), draw(*b)) for a, b in pairs)


def _square(draw: Draw, *shape: int) -> Any:
    """Well-conditioned matrices: near a multiple of the identity."""
    return (draw(*shape) * 0.5 + 2 * np.eye(shape[-1])).astype(draw.dtype)


def squares(draw: Draw) -> Any:
    return (
        sample(_square(draw, *shape)) for shape in ((1, 1), (2, 2), (3, 3), (2, 2, 2), (2, 5, 5))
    )


def _definite(draw: Draw, *shape: int) -> Any:
    a = draw(*shape).astype("float64") * 0.5
    return (a @ np.swapaxes(a, -1, -2) + np.eye(shape[-1])).astype(draw.dtype)


def definite(draw: Draw) -> Any:
    return (sample(_definite(draw, *shape)) for shape in ((1, 1), (2, 2), (3, 3), (2, 2, 2)))


def tall(draw: Draw) -> Any:
    return (
        sample(draw(*shape) + 1.5 * np.eye(*shape[-2:], dtype=draw.dtype))
        for shape in ((2, 2), (3, 2), (3, 3), (2, 3, 2))
    )


def wide(draw: Draw) -> Any:
    return (
        sample(draw(*shape) + 1.5 * np.eye(*shape[-2:], dtype=draw.dtype))
        for shape in ((2, 2), (3, 2), (2, 3), (2, 2, 3))
    )


def _symmetric(torch: Any, a: Any) -> Any:
    return (a + a.mT) / 2


def _turned(a: Any, upper: bool) -> Any:
    """The matrix whose Cholesky factor is the triangle of a."""
    return _transposed(np.triu(a)) @ np.triu(a) if upper else np.tril(a) @ _transposed(np.tril(a))


def _transposed(a: Any) -> Any:
    return np.swapaxes(a, -1, -2)


def _svd_parts(torch: Any, a: Any) -> Any:
    """What does not depend on the signs of the vectors: singular values, squared entries, the product."""
    u, s, vh = torch.linalg.svd(a, full_matrices=False)
    return s, u * u, vh * vh, (u * s.unsqueeze(-2)) @ vh


def _svd_reference(a: Any) -> Any:
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    return s, u * u, vh * vh, a


def _eigh_parts(torch: Any, a: Any) -> Any:
    w, v = torch.linalg.eigh(_symmetric(torch, a))
    return w, v * v, (v * w.unsqueeze(-2)) @ v.mT


def _eigh_reference(a: Any) -> Any:
    w, v = np.linalg.eigh((a + _transposed(a)) / 2)
    return w, v * v, (a + _transposed(a)) / 2


def _apart(draw: Draw, *shape: int) -> Any:
    """Matrices with eigenvalues near 1, 2, 3, ..., the last two of them turned into a complex pair if there are three or more."""
    n = shape[-1]
    a = draw(*shape) * 0.1 + np.diag(np.arange(1.0, n + 1))
    if n > 2:
        a[..., -1, -2], a[..., -2, -1] = 1.5, -1.5
    return a.astype(draw.dtype)


def eigenvalues_apart(draw: Draw) -> Any:
    return (sample(_apart(draw, *shape)) for shape in ((1, 1), (2, 2), (3, 3), (2, 2, 2)))


def _eig_parts(torch: Any, a: Any) -> Any:
    """What does not depend on phases, as real numbers: eigenvalues, sizes of the vectors' entries, the product."""
    w, v = torch.linalg.eig(a)
    return w.real, w.imag, (v * v.conj()).real, ((v * w.unsqueeze(-2)) @ torch.linalg.inv(v)).real


def _eig_reference(a: Any) -> Any:
    w, v = np.linalg.eig(a.astype("complex128") if a.shape[-1] < 3 else a)
    return w.real, w.imag, np.abs(v) ** 2, a


def _full_svd_parts(torch: Any, a: Any) -> Any:
    """What does not depend on the choice of the vectors beyond the rank: both are bases, and the product."""
    u, s, vh = torch.linalg.svd(a)
    k = s.shape[-1]
    return u.mT @ u, vh @ vh.mT, (u[..., :k] * s.unsqueeze(-2)) @ vh[..., :k, :]


def _full_svd_reference(a: Any) -> Any:
    m, n = (np.broadcast_to(np.eye(k), (*a.shape[:-2], k, k)) for k in a.shape[-2:])
    return m, n, a


def _complete_qr_parts(torch: Any, a: Any) -> Any:
    q, r = torch.linalg.qr(a, mode="complete")
    return q.mT @ q, r.abs(), q @ r


def _complete_qr_reference(a: Any) -> Any:
    q, r = np.linalg.qr(a, "complete")
    return _transposed(q) @ q, np.abs(r), a


def _qr_parts(torch: Any, a: Any) -> Any:
    q, r = torch.linalg.qr(a)
    return q * q, r * r, q @ r


def _qr_reference(a: Any) -> Any:
    q, r = np.linalg.qr(a)
    return q * q, r * r, a


def _rectangles(draw: Draw) -> Any:
    """Rows that have to be exchanged, and not nearly so."""
    for shape in ((3, 2), (2, 3)):
        yield sample((draw(*shape) * 0.5 + 2 * np.eye(*shape[-2:])[::-1]).astype(draw.dtype))


def _lu_parts(torch: Any, a: Any) -> Any:
    P, L, U = torch.linalg.lu(a)
    packed, pivots = torch.linalg.lu_factor(a)
    Q, M, V = torch.lu_unpack(packed, pivots)
    return P @ L @ U, Q @ M, V, packed, torch.linalg.lu_factor_ex(a).info


def _lu_reference(a: Any) -> Any:
    packed = np.stack([_eliminated(m) for m in a.reshape(-1, *a.shape[-2:])]).reshape(a.shape)
    k = min(a.shape[-2:])
    upper = np.triu(packed[..., :k, :])
    return a, a[..., :k] @ np.linalg.inv(upper[..., :k]), upper, packed, np.zeros(a.shape[:-2], "int32")


def _eliminated(a: Any) -> Any:
    x = a.astype("float64")
    for i in range(min(x.shape)):
        chosen = i + int(np.argmax(np.abs(x[i:, i])))
        x[[i, chosen]] = x[[chosen, i]]
        x[i + 1 :, i] /= x[i, i]
        x[i + 1 :, i + 1 :] -= np.outer(x[i + 1 :, i], x[i, i + 1 :])
    return x


def _reflected(a: Any, tau: Any) -> Any:
    out = np.zeros(a.shape) + np.eye(*a.shape[-2:])
    for i in reversed(range(tau.shape[-1])):
        v = (np.tril(a, -1) + np.eye(*a.shape[-2:]))[..., i, None]
        out = out - tau[..., i, None, None] * (v @ (_transposed(v) @ out))
    return out


def systems(draw: Draw) -> Any:
    yield sample(_square(draw, 2, 2), draw(2))
    yield sample(_square(draw, 2, 2), draw(2, 3))
    yield sample(_square(draw, 3, 3), draw(3, 1))
    yield sample(_square(draw, 2, 2, 2), draw(2, 2, 1))


def _solve(a: Any, b: Any) -> Any:
    return np.linalg.solve(a, b[..., None])[..., 0] if b.ndim == 1 else np.linalg.solve(a, b)


def _einsums(draw: Draw) -> Any:
    yield sample("ij,jk->ik", draw(2, 3), draw(3, 2))
    yield sample("ij,jk", draw(2, 2), draw(2, 3))
    yield sample("i,j->ij", draw(3), draw(2))
    yield sample("ij->ji", draw(2, 3))
    yield sample("ij->", draw(2, 3))
    yield sample("ii->i", draw(3, 3))
    yield sample("ii", draw(3, 3))
    yield sample("bij,bjk->bik", draw(2, 2, 1), draw(2, 1, 2))
    yield sample("...ij,...jk->...ik", draw(2, 1, 2), draw(2, 2))
    yield sample("i,i,i->", draw(3), draw(3), draw(3))
    yield sample("ij,kj,k->i", draw(2, 2), draw(2, 2), draw(2))
    yield sample("...ij,...jk->...ki", draw(2, 2, 3), draw(3, 1, 3, 1))
    yield sample("ij,jk->i", draw(2, 1), draw(3, 2))
    yield sample("ij,ij,ik->kj", draw(1, 3), draw(2, 1), draw(2, 2))


def _tensordots(draw: Draw) -> Any:
    yield sample(draw(2, 3), draw(3, 2), dims=1)
    yield sample(draw(2, 2), draw(2, 2), dims=2)
    yield sample(draw(2, 3), draw(3, 2), dims=([0, 1], [1, 0]))
    yield sample(draw(2, 3), draw(2, 2), dims=([0], [1]))


def _norms(draw: Draw) -> Any:
    for order in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        yield sample(draw(2, 3), order)


def _exponential(a: Any) -> Any:
    """By eigenvalues in complex numbers: another way than the one tested."""
    w, v = np.linalg.eig(a.astype("complex128"))
    return ((v * np.exp(w)[..., None, :]) @ np.linalg.inv(v)).real


SQUARE = fails(RuntimeError, "square matrices", np.ones((2, 3)))
RANK = fails(RuntimeError, "at least 2 dimensions", np.ones(3))
REAL = fails(RuntimeError, "floating point", np.ones((2, 2), "int64"))
INNER = fails(RuntimeError, "cannot be multiplied", np.ones((2, 3)), np.ones((4, 2)))

PRODUCTS = (
    OpRecord("matmul", products(((3,), (3,)), ((2, 3), (3,)), ((2,), (2, 3)), ((2, 3), (3, 2)), ((2, 2, 2), (2, 2)), ((2, 1, 2), (1, 2, 2)), ((2, 2), (2, 2, 1)),
                                 ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((1, 1), (1, 1)), ((17, 5), (5, 19)), ((3, 7, 11), (11,)), ((33, 64), (64, 40))),
             np.matmul, dtypes=NUMBERS, rtol=(1e-5, 1e-13), method="matmul", covers=("__matmul__", "linalg.matmul"),
             errors=(INNER, fails(RuntimeError, "at least 1D", np.ones(()), np.ones(3)), fails(RuntimeError, "same dtype", np.ones((2, 2)), np.ones((2, 2), "float32")),
                     fails(RuntimeError, "inconsistent tensor size", np.ones(2), np.ones(3)))),
    OpRecord("mm", products(((2, 3), (3, 2)), ((1, 1), (1, 4))), np.matmul, method="mm", errors=(INNER, fails(RuntimeError, "must be matrices", np.ones(3), np.ones((3, 2))))),
    OpRecord("mv", products(((2, 3), (3,)),), np.matmul, method="mv", errors=(fails(RuntimeError, "vector", np.ones((2, 3)), np.ones((3, 1))),)),
    OpRecord("dot", products(((3,), (3,)), ((0,), (0,)), ((1,), (1,)), ((37,), (37,))), np.dot, method="dot", rtol=(1e-5, 1e-13),
             errors=(fails(RuntimeError, "1D tensors expected", np.ones((2, 2)), np.ones(2)),)),
    OpRecord("bmm", products(((2, 1, 3), (2, 3, 1)), ((2, 2, 1), (2, 1, 2))), np.matmul, method="bmm",
             errors=(fails(RuntimeError, "3D", np.ones((2, 2)), np.ones((2, 2))), fails(RuntimeError, "batch2", np.ones((2, 2, 2)), np.ones((3, 2, 2))))),
    OpRecord("outer", products(((2,), (3,)), ((1,), (0,))), np.outer, method="outer", exact=True, covers=("ger",)),
    OpRecord("addmm", lambda draw: (sample(draw(2, 2), draw(2, 1), draw(1, 2)), sample(draw(2), draw(2, 2), draw(2, 2), beta=0.5, alpha=2)),
             lambda c, a, b, beta=1, alpha=1: beta * c + alpha * (a @ b), method="addmm", in_place="addmm_"),
    OpRecord("baddbmm", lambda draw: (sample(draw(2, 1, 1), draw(2, 1, 2), draw(2, 2, 1), beta=0.5),), lambda c, a, b, beta: beta * c + a @ b, method="baddbmm", in_place="baddbmm_"),
    OpRecord("addmv", lambda draw: (sample(draw(2), draw(2, 3), draw(3), alpha=2),), lambda c, a, b, alpha: c + alpha * (a @ b), method="addmv", in_place="addmv_"),
    OpRecord("inner", products(((3,), (3,)), ((2, 3), (3,)), ((2, 3), (4, 3)), ((), (2,))), np.inner, rtol=(1e-5, 1e-13), method="inner",
             errors=(fails(RuntimeError, "last dimension", np.ones((2, 3)), np.ones(2)),)),
    OpRecord("vdot", products(((3,), (3,)), ((0,), (0,))), np.vdot, method="vdot", rtol=(1e-5, 1e-13)),
    OpRecord("linalg.vecdot", products(((3,), (3,)), ((2, 3), (2, 3)), ((2, 3), (3,))), lambda a, b: (a * b).sum(-1), rtol=(1e-5, 1e-13)),
    OpRecord("addr", lambda draw: (sample(draw(2, 2), draw(2), draw(2)), sample(draw(2), draw(2), draw(2), beta=0.5, alpha=2)),
             lambda c, a, b, beta=1, alpha=1: beta * c + alpha * np.outer(a, b), method="addr", in_place="addr_"),
    OpRecord("addbmm", lambda draw: (sample(draw(1, 1), draw(2, 1, 2), draw(2, 2, 1), beta=0.5, alpha=2),), lambda c, a, b, beta, alpha: beta * c + alpha * (a @ b).sum(0),
             method="addbmm", in_place="addbmm_"),
    OpRecord("chain_matmul", lambda draw: (sample(draw(1, 2), draw(2, 3), draw(3, 1)),), lambda a, b, c: a @ b @ c),
    OpRecord("kron", products(((2,), (3,)), ((2, 2), (1, 3)), ((2,), (2, 2)), ((2, 1, 2), (2,))), np.kron, exact=True, method="kron"),
    OpRecord("tensordot", _tensordots, lambda a, b, dims: np.tensordot(a, b, dims),
             errors=(fails(RuntimeError, "need to match", np.ones((2, 3)), np.ones((3, 2)), 2),)),
    OpRecord("einsum", _einsums, np.einsum, rtol=(1e-5, 1e-13),
             errors=(fails(RuntimeError, "operands", "ij,jk->ik", np.ones((2, 2))), fails(RuntimeError, "subscripts", "ij->i", np.ones(3)),
                     fails(RuntimeError, "sizes differ", "ii->i", np.ones((1, 3))), fails(RuntimeError, "more than once", "ij->ii", np.ones((2, 3))),
                     fails(RuntimeError, "does not appear", "ij->ik", np.ones((2, 3))))),
    OpRecord("linalg.multi_dot", lambda draw: (sample([draw(1, 2), draw(2, 3), draw(3, 1)]),), lambda ms: ms[0] @ ms[1] @ ms[2]),
    OpRecord("cross", products(((3,), (3,)), ((2, 3), (2, 3))), np.cross, lambda torch, a, b: torch.linalg.cross(a, b), method="", rtol=(1e-5, 1e-13),
             covers=("linalg.cross",)),
    OpRecord("matrix_power", lambda draw: (sample(_square(draw, 2, 2), n) for n in (0, 1, 2, 3, 5)), np.linalg.matrix_power, rtol=TOLERANCE,
             method="matrix_power", covers=("linalg.matrix_power",)),
    OpRecord("matrix_power_of_inverse", lambda draw: (sample(_square(draw, 2, 2), n) for n in (-1, -2)), np.linalg.matrix_power,
             lambda torch, x, n: torch.linalg.matrix_power(x, n), rtol=TOLERANCE, halves=False),
)  # fmt: skip

DECOMPOSITIONS = (
    OpRecord("linalg.inv", squares, np.linalg.inv, rtol=TOLERANCE, errors=(SQUARE, RANK, REAL), covers=("inv", "inverse")),
    OpRecord("linalg.matrix_exp", lambda draw: (sample(draw(*s)) for s in ((1, 1), (2, 2), (3, 3), (2, 2, 2))), _exponential, rtol=(2e-5, 1e-11), second=False,
             errors=(SQUARE, RANK), covers=("matrix_exp",)),
    OpRecord("vander", lambda draw: (sample(draw(3)), sample(draw(3), 2), sample(draw(2), 4, True)), np.vander, avoid=(0.0,), torch="has no derivative: its formula works in place",
             errors=(fails(RuntimeError, "one-dimensional", np.ones((2, 2))),)),
    OpRecord("linalg.vander", lambda draw: (sample(draw(3)), sample(draw(3), N=2), sample(draw(2, 3), N=4)), lambda x, N=None: x[..., None] ** np.arange(N or x.shape[-1]),
             avoid=(0.0,), rtol=(1e-5, 1e-12), errors=(fails(RuntimeError, "greater than 1", np.ones(2), N=1),)),
    OpRecord("linalg.det", squares, np.linalg.det, rtol=TOLERANCE, errors=(SQUARE,), covers=("det",)),
    OpRecord("linalg.slogdet", squares, lambda a: tuple(np.linalg.slogdet(a)), rtol=TOLERANCE, covers=("slogdet",)),
    OpRecord("logdet", definite, lambda a: np.linalg.slogdet(a)[1], rtol=TOLERANCE, method="logdet"),
    OpRecord("linalg.solve", systems, _solve, rtol=TOLERANCE, errors=(fails(RuntimeError, "square matrices", np.ones((2, 3)), np.ones(2)),)),
    OpRecord("solve_right", lambda draw: (sample(_square(draw, 2, 2), draw(3, 2)),), lambda a, b: b @ np.linalg.inv(a),
             lambda torch, a, b: torch.linalg.solve(a, b, left=False), rtol=TOLERANCE),
    OpRecord("linalg.solve_triangular", lambda draw: (sample(_square(draw, 2, 2), draw(2, 1), upper=u, unitriangular=n) for u in (True, False) for n in (True, False)),
             lambda a, b, upper, unitriangular: np.linalg.solve(_triangle(a, upper, unitriangular), b), rtol=TOLERANCE),
    OpRecord("cholesky_solve", lambda draw: (sample(draw(2, 1), _definite(draw, 2, 2), upper=u) for u in (False, True)),
             lambda b, a, upper: np.linalg.solve(_turned(a, upper), b),
             lambda torch, b, a, upper=False: torch.cholesky_solve(b, torch.triu(a) if upper else torch.tril(a), upper=upper), rtol=TOLERANCE,
             errors=(fails(RuntimeError, "at least 2 dimensions", np.ones(2), np.eye(2)),), covers=("cholesky_solve",)),
    OpRecord("linalg.cholesky", definite, np.linalg.cholesky, lambda torch, a: torch.linalg.cholesky(_symmetric(torch, a)), rtol=TOLERANCE,
             covers=("cholesky",)),
    OpRecord("cholesky_upper", definite, lambda a: _transposed(np.linalg.cholesky(a)), lambda torch, a: torch.linalg.cholesky(_symmetric(torch, a), upper=True),
             rtol=TOLERANCE),
    OpRecord("linalg.qr", tall, _qr_reference, _qr_parts, rtol=TOLERANCE, covers=("qr",)),
    OpRecord("qr_complete", tall, _complete_qr_reference, _complete_qr_parts, rtol=TOLERANCE, differentiable=False),
    OpRecord("qr_r", tall, lambda a: np.abs(np.linalg.qr(a, "r")), lambda torch, a: torch.linalg.qr(a, mode="r")[1].abs(), rtol=TOLERANCE,
             torch="has no derivative in this mode"),
    OpRecord("cholesky_inverse", lambda draw: (sample(_definite(draw, 2, 2), upper=u) for u in (False, True)), lambda a, upper: np.linalg.inv(_turned(a, upper)),
             lambda torch, a, upper=False: torch.cholesky_inverse(torch.triu(a) if upper else torch.tril(a), upper=upper), rtol=TOLERANCE),
    OpRecord("linalg.cholesky_ex", definite, lambda a: (np.linalg.cholesky(a), np.zeros(a.shape[:-2], "int32")), lambda torch, a: torch.linalg.cholesky_ex(_symmetric(torch, a)),
             rtol=TOLERANCE),
    OpRecord("linalg.inv_ex", squares, lambda a: (np.linalg.inv(a), np.zeros(a.shape[:-2], "int32")), rtol=TOLERANCE, errors=(SQUARE,)),
    OpRecord("linalg.lu", _rectangles, _lu_reference, _lu_parts, rtol=TOLERANCE, covers=("lu_unpack", "linalg.lu_factor", "linalg.lu_factor_ex", "row_order"),
             errors=(fails(RuntimeError, "2 or more dimensions", np.ones(3)),)),
    OpRecord("linalg.lu_solve", lambda draw: (sample(_square(draw, 2, 2), draw(2, 1), left=True, adjoint=t) for t in (False, True)),
             lambda a, b, left, adjoint: np.linalg.solve(a.T if adjoint else a, b), lambda torch, a, b, **k: torch.linalg.lu_solve(*torch.linalg.lu_factor(a), b, **k),
             rtol=TOLERANCE, covers=("lu_solve",)),
    OpRecord("linalg.householder_product", lambda draw: (sample(draw(*s), draw(*s[:-2], k)) for s, k in (((3, 2), 2), ((3, 2), 1), ((2, 2, 1), 1))), _reflected, rtol=TOLERANCE,
             errors=(fails(RuntimeError, "greater than or equal", np.ones((2, 3)), np.ones(2)),)),
    OpRecord("linalg.eig", eigenvalues_apart, _eig_reference, _eig_parts, rtol=(1e-4, 1e-10), errors=(SQUARE,), halves=False),
    OpRecord("linalg.eigvals", eigenvalues_apart, lambda a: np.linalg.eigvals(a).real, lambda torch, a: torch.linalg.eigvals(a).real, rtol=(1e-4, 1e-10),
             halves=False),
    OpRecord("linalg.solve_ex", lambda draw: (sample(_square(draw, *s), draw(*s)) for s in ((2, 2), (2, 3, 3))),
             lambda a, b: (np.linalg.solve(a, b), np.zeros(a.shape[:-2], "int32")), rtol=TOLERANCE, errors=(fails(RuntimeError, "square", np.ones((2, 3)), np.ones(2)),)),
    OpRecord("linalg.tensorinv", lambda draw: (sample(_square(draw, n, n).reshape(s), k) for n, s, k in ((6, (2, 3, 6), 2), (6, (2, 3, 3, 2), 2), (3, (3, 3, 1), 1), (2, (1, 2, 2), 2))),
             lambda a, k: np.linalg.tensorinv(a, k), rtol=TOLERANCE, errors=(fails(RuntimeError, "prod", np.ones((2, 3))), fails(RuntimeError, "positive", np.ones((2, 2)), 0))),
    OpRecord("linalg.tensorsolve",
             lambda draw: (sample(_square(draw, n, n).reshape(s), draw(*b), dims)
                           for n, s, b, dims in ((4, (2, 2, 4), (2, 2), None), (4, (2, 2, 4), (4,), (1, 0)), (3, (1, 3, 3), (1, 3), None), (2, (1, 2, 2), (2,), (2, 0)))),
             lambda a, b, dims: np.linalg.tensorsolve(a, b, dims), rtol=TOLERANCE,
             errors=(fails(RuntimeError, "prod", np.ones((2, 3)), np.ones(2)), fails(IndexError, "out of range", np.ones((2, 2)), np.ones(2), (5,)))),
    OpRecord("linalg.eigh", definite, _eigh_reference, _eigh_parts, rtol=(1e-4, 1e-10), covers=("linalg.eigvalsh",)),
    OpRecord("linalg.svd", wide, _svd_reference, _svd_parts, rtol=(1e-4, 1e-10), covers=("svd",)),
    OpRecord("svd_full", wide, _full_svd_reference, _full_svd_parts, rtol=(1e-4, 1e-10), differentiable=False),
    OpRecord("svd_with_v", wide, lambda a: a, lambda torch, a: (lambda u, s, v: (u * s.unsqueeze(-2)) @ v.mT)(*torch.svd(a)), rtol=(1e-4, 1e-10)),
    OpRecord("linalg.svdvals", wide, lambda a: np.linalg.svd(a, compute_uv=False), rtol=TOLERANCE),
    OpRecord("pinv", wide, np.linalg.pinv, lambda torch, a: torch.linalg.pinv(a), rtol=(1e-4, 1e-10), covers=("linalg.pinv", "pinverse", "linalg.lstsq")),
    OpRecord("linalg.matrix_rank", lambda draw: (sample(draw(3, 3)), sample(np.ones((3, 3), draw.dtype))), np.linalg.matrix_rank, differentiable=False, exact=True),
    OpRecord("linalg.cond", squares, np.linalg.cond, rtol=TOLERANCE),
    OpRecord("cond_by_norms", lambda draw: (sample(_square(draw, 2, 2), p) for p in ("fro", 1, -math.inf, -2)), np.linalg.cond,
             lambda torch, a, p: torch.linalg.cond(a, p), rtol=TOLERANCE, torch="changes its inverse in place"),
    OpRecord("linalg.norm", lambda draw: (sample(draw(5)), sample(draw(2, 3)), sample(draw(3), 1)), np.linalg.norm, covers=("linalg.norm",)),
    OpRecord("linalg.vector_norm", lambda draw: (sample(draw(5), 3), sample(draw(2, 3), 2, 1)), np.linalg.norm,
             errors=(fails(RuntimeError, "identity", np.ones((0,)), math.inf), fails(RuntimeError, "identity", np.ones((2, 0)), -1, 1))),
    OpRecord("linalg.matrix_norm", _norms, np.linalg.norm, rtol=TOLERANCE),
    OpRecord("linalg.diagonal", lambda draw: (sample(draw(2, 3), dim1=0, dim2=1),), lambda a, **k: np.diagonal(a), exact=True),
)  # fmt: skip


def _triangle(a: Any, upper: bool, unit: bool) -> Any:
    t = np.triu(a) if upper else np.tril(a)
    return t * (1 - np.eye(len(a))) + np.eye(len(a)) if unit else t


NO_DECOMPOSITION = frozenset(("cross", "linalg.cross", "linalg.vector_norm", "linalg.diagonal", "linalg.norm"))
RECORDS = (*PRODUCTS, *(replace(r, halves=r.name in NO_DECOMPOSITION) for r in DECOMPOSITIONS))
