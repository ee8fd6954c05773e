"""`torch.linalg`: the linear-algebra functions under their names there.

>>> import adjoint as torch
>>> torch.linalg.det(torch.eye(2))
tensor(1.)
"""

from adjoint.ops.linalg import (
    cholesky,
    cond,
    cross,
    det,
    eigh,
    eigvalsh,
    inv,
    lstsq,
    matmul,
    matrix_norm,
    matrix_power,
    matrix_rank,
    multi_dot,
    pinv,
    qr,
    slogdet,
    solve,
    solve_triangular,
    svd,
    svdvals,
)
from adjoint.ops.linalg import linalg_norm as norm
from adjoint.ops.linalg import linalg_vector_norm as vector_norm
from adjoint.ops.shape import diagonal_of as diagonal

__all__ = [
    "cholesky", "cond", "cross", "det", "diagonal", "eigh", "eigvalsh", "inv", "lstsq", "matmul", "matrix_norm",
    "matrix_power", "matrix_rank", "multi_dot", "norm", "pinv", "qr", "slogdet", "solve", "solve_triangular", "svd",
    "svdvals", "vector_norm",
]  # fmt: skip
