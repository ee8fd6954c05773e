"""What to say about a name that is not here: PyTorch names not covered yet, what to use instead, and misspellings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

ADVICE = {
    "sparse": "tensors are dense; use a dense tensor, or index_add and gather",
    "sparse_coo_tensor": "tensors are dense; use a dense tensor, or index_add and gather",
    "quantization": "use float32",
    "onnx": "save the parameters with io.save_file (safetensors) and rebuild the model elsewhere",
    "half": "use .to(dtype) with a dtype of this package",
}
PYTORCH = frozenset(
    "sparse sparse_coo_tensor quantization onnx "
    "lobpcg geqrf orgqr ormqr triangular_solve symeig eig lstsq ldl_factor ldl_solve "
    "segment_reduce to_dlpack functionalize half bfloat16".split()
)
TENSOR = (  # attributes of PyTorch's tensors
    "angle as_subclass bfloat16 cfloat coalesce conj conj_physical dense_dim "
    "dequantize eig geqrf half imag indices is_coalesced "
    "is_conj is_neg isreal lstsq "
    "nonzero_static orgqr ormqr "
    "record_stream resize resolve_conj resolve_neg sparse_dim sparse_mask symeig "
    "to_mkldnn to_sparse to_sparse_csr triangular_solve values"
).split()


FAMILIES = (  # what names of PyTorch begin with, and what is said of all of them
    ("cudnn_ miopen_", "it is a kernel of a GPU library; use the function of nn.functional"),
    ("mkldnn_ to_mkldnn fbgemm_", "it is a kernel of another library; use the function of nn.functional, on ordinary tensors"),
    ("quantize quantized_ fake_quantize dequantize int_repr q_scale q_zero_point q_per_channel qscheme per_tensor_ per_channel_ qint quint "
     "empty_quantized choose_qparams fused_moving_avg", "tensors are not quantised; use float32, or a half such as bfloat16 for storage"),
    ("sparse_ to_sparse is_coalesced coalesce ccol_ crow_ col_indices row_indices hspmm spmm sspaddmm hsmm dsmm saddmm smm",
     "tensors are dense; use a dense tensor, or index_add and gather"),
)  # fmt: skip


def _of_family(name: str) -> str:
    return next((advice for starts, advice in FAMILIES if name.startswith(tuple(starts.split()))), "")


def absent(owner: str, name: str, present: Iterable[str]) -> AttributeError:
    """The error for a name that `owner` (a module or "Tensor") lacks; `present` are the names it has."""
    if name.startswith("_"):
        return AttributeError(f"{owner} has no attribute {name!r}")
    what = f"'{owner}' object" if owner == "Tensor" else f"module '{owner}'"
    text = f"{what} has no attribute {name!r}"
    family = _of_family(name)
    if name in PYTORCH or name in ADVICE or family or (owner == "Tensor" and name in TENSOR):
        text += ": PyTorch has it, Adjoint does not have it yet" if not family else ": PyTorch has it, Adjoint does not"
        if family or name in ADVICE:
            text += f"; {family or ADVICE[name]}"
    else:
        close = difflib.get_close_matches(name, [p for p in present if not p.startswith("_")], 3, 0.75)
        if close:
            text += f". Did you mean: {', '.join(repr(c) for c in close)}?"
    return AttributeError(text)


class Absent:
    """Stands for an attribute that PyTorch's tensors have and Adjoint's have not: reading it raises with advice.

    A `__getattr__` would say the same, but makes the interpreter look up every attribute of a tensor the slow way.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, owner: object, kind: type | None = None) -> object:
        error = absent("Tensor", self.name, ())
        error.name, error.obj = self.name, owner
        raise error
