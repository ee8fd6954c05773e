"""`torch.return_types`: tuples with names for their places, as functions with several results return them.

>>> import adjoint as torch
>>> torch.max(torch.tensor([3, 7, 5]), 0)
torch.return_types.max(
values=tensor(7),
indices=tensor(1))

Each function has a class of its own, named after it; `_FIELDS` lists them. A class takes one sequence of its values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any

_VALUES_INDICES = "max min median nanmedian mode sort topk kthvalue cummax cummin"
_FIELDS = {
    **dict.fromkeys(_VALUES_INDICES.split(), "values indices"),
    "aminmax": "min max",
    "frexp": "mantissa exponent",
    "histogram": "hist bin_edges",
    "histogramdd": "hist bin_edges",
    "qr": "Q R",
    "slogdet": "sign logabsdet",
    "svd": "U S V",
    "lu_unpack": "P L U",
    "linalg_cholesky_ex": "L info",
    "linalg_eig": "eigenvalues eigenvectors",
    "linalg_eigh": "eigenvalues eigenvectors",
    "linalg_inv_ex": "inverse info",
    "linalg_lstsq": "solution residuals rank singular_values",
    "linalg_lu": "P L U",
    "linalg_lu_factor": "LU pivots",
    "linalg_lu_factor_ex": "LU pivots info",
    "linalg_qr": "Q R",
    "linalg_slogdet": "sign logabsdet",
    "linalg_solve_ex": "result info",
    "linalg_svd": "U S Vh",
}


class NamedResults(tuple):
    """A tuple whose places have names. TypeError for another number of values than names."""

    __slots__ = ()
    __match_args__: tuple[str, ...] = ()

    def __new__(cls, values: Iterable[Any]) -> NamedResults:
        self = tuple.__new__(cls, values)
        names = cls.__match_args__
        if len(self) != len(names):
            raise TypeError(
                f"torch.return_types.{cls.__name__}() takes a {len(names)}-sequence ({len(self)}-sequence given): one value for each "
                f"of {', '.join(names)}"
            )
        return self

    def __repr__(self) -> str:
        parts = ",\n".join([f"{name}={value!r}" for name, value in zip(self.__match_args__, self, strict=True)])
        return f"torch.return_types.{type(self).__name__}(\n{parts})"


def _make(name: str, fields: str) -> type[NamedResults]:
    names = tuple(fields.split())
    places = {field: property(itemgetter(k), doc=f"Result {k}.") for k, field in enumerate(names)}
    counts = dict(n_fields=len(names), n_sequence_fields=len(names), n_unnamed_fields=0)
    described = f"What `{name.replace('linalg_', 'linalg.')}` returns: {', '.join(names)}."
    body = {"__slots__": (), "__match_args__": names, "__module__": __name__, "__doc__": described, **counts, **places}
    return type(name, (NamedResults,), body)


for _name, _fields in _FIELDS.items():
    globals()[_name] = _make(_name, _fields)

all_return_types = [globals()[_name] for _name in sorted(_FIELDS)]
__all__ = [*sorted(_FIELDS), "all_return_types"]  # noqa: PLE0604


def same_kind(example: tuple, values: Iterable[Any] | Iterator[Any]) -> Any:
    """New values in a tuple of the type of another, which may have names for its places."""
    return type(example)(*values) if hasattr(example, "_fields") else type(example)(values)


def __getattr__(name: str) -> Any:
    from adjoint.absent import absent

    raise absent(__name__, name, __all__)
