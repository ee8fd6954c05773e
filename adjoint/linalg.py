"""`torch.linalg`: the linear-algebra functions under their names there.

>>> import adjoint as torch
>>> torch.linalg.det(torch.eye(2))
tensor(1.)
"""

from types import FunctionType as _FunctionType

from adjoint.ir.reference import LinAlgError
from adjoint.ops.factors import (
    cholesky_ex,
    householder_product,
    inv_ex,
    lu,
    lu_factor,
    lu_factor_ex,
    solve_ex,
)
from adjoint.ops.factors import linalg_lu_solve as lu_solve
from adjoint.ops.linalg import (
    cholesky,
    cond,
    cross,
    det,
    eig,
    eigh,
    eigvals,
    eigvalsh,
    inv,
    lstsq,
    matrix_exp,
    matrix_norm,
    matrix_power,
    matrix_rank,
    multi_dot,
    pinv,
    solve,
    solve_triangular,
    svdvals,
    tensorinv,
    tensorsolve,
)
from adjoint.ops.linalg import linalg_norm as norm
from adjoint.ops.linalg import linalg_qr as qr
from adjoint.ops.linalg import linalg_slogdet as slogdet
from adjoint.ops.linalg import linalg_svd as svd
from adjoint.ops.linalg import linalg_vander as vander
from adjoint.ops.linalg import linalg_vector_norm as vector_norm
from adjoint.ops.products import matmul, vecdot
from adjoint.ops.results import public as _public
from adjoint.ops.shape import diagonal as _diagonal
from adjoint.trace.handle import Tensor


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonals of the last two axes (or of the given ones), as a view."""
    return _diagonal(A, offset, dim1, dim2)



for _name, _value in list(globals().items()):
    if isinstance(_value, _FunctionType) and not _name.startswith("_"):
        globals()[_name] = _public(_value, f"linalg.{_name}")


__all__ = [
    "LinAlgError",
    "cholesky", "cholesky_ex", "cond", "cross", "det", "diagonal", "eig", "eigh", "eigvals", "eigvalsh", "householder_product", "inv", "inv_ex", "lstsq", "lu", "lu_factor",
    "lu_factor_ex", "lu_solve", "matmul", "matrix_exp",
    "matrix_norm",
    "matrix_power", "matrix_rank", "multi_dot", "norm", "pinv", "qr", "slogdet", "solve", "solve_ex", "solve_triangular", "svd",
    "svdvals", "tensorinv", "tensorsolve", "vander", "vecdot", "vector_norm",
]  # fmt: skip


def __getattr__(name: str) -> object:
    from adjoint.absent import absent

    raise absent(__name__, name, globals())
