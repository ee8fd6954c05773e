"""What to say about a name that is not here: PyTorch names not covered yet, what to use instead, and misspellings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

ADVICE = {
    "jit": "every operation is recorded and compiled already; leave the call out",
    "sparse": "tensors are dense; use a dense tensor, or index_add and gather",
    "sparse_coo_tensor": "tensors are dense; use a dense tensor, or index_add and gather",
    "distributed": "a program runs in one process; its threads share the work of large operations",
    "multiprocessing": "use Python's multiprocessing with arrays",
    "quantization": "use float32",
    "onnx": "save the parameters with io.save_file (safetensors) and rebuild the model elsewhere",
    "hub": "load the parameters from a file",
    "DataParallel": "threads share the work of large operations already; use the module itself",
    "SyncBatchNorm": "there is one process; use BatchNorm2d",
    "SparseAdam": "gradients are dense; use Adam",
    "weight_norm": "use nn.utils.parametrizations.weight_norm",
    "spectral_norm": "use nn.utils.parametrizations.spectral_norm",
    "embedding_bag": "use nn.functional.embedding_bag",
    "half": "use .to(dtype) with a dtype of this package",
    "storage": "use numpy(), which shares the memory",
    "saved_tensors_hooks": "operations save nothing one by one: what backward reads is chosen for a whole trace when it ends; keep less "
    "with torch.utils.checkpoint, or keep what you choose in the ctx of an autograd.Function",
    "set_default_device": "tensors are made on the CPU; leave the call out",
    "set_default_tensor_type": "use set_default_dtype",
    "set_float32_matmul_precision": "products are computed in the dtype of their operands; leave the call out",
    **dict.fromkeys(
        "FloatTensor DoubleTensor HalfTensor BFloat16Tensor ByteTensor CharTensor ShortTensor IntTensor LongTensor BoolTensor".split(),
        "use torch.tensor(data, dtype=...) for data, torch.empty(sizes, dtype=...) for sizes, x.dtype to ask what a tensor holds",
    ),
    "use_deterministic_algorithms": "results are always the same for the same input; leave the call out",
}
PYTORCH = frozenset(
    "jit sparse sparse_coo_tensor distributed multiprocessing quantization onnx hub "
    "lobpcg svd_lowrank pca_lowrank lu "
    "geqrf orgqr ormqr triangular_solve symeig eig lstsq "
    "igamma igammac segment_reduce empty_strided to_dlpack "
    "set_default_device set_default_tensor_type set_float32_matmul_precision use_deterministic_algorithms "
    "fractional_max_pool2d fractional_max_pool3d "
    "DataParallel SyncBatchNorm FractionalMaxPool2d LazyLinear "
    "LazyConv2d LazyBatchNorm2d AdaptiveLogSoftmaxWithLoss SparseAdam "
    "Adafactor Muon spectral_norm weight_norm prune fuse_conv_bn_eval "
    "saved_tensors_hooks skip_init functionalize "
    "DistributedSampler ldl_factor ldl_solve "
    "bessel_j0 bessel_j1 bessel_y0 bessel_y1 zeta "
    "airy_ai half bfloat16 storage".split()
)
TENSOR = (  # attributes of PyTorch's tensors
    "angle apply_ as_subclass bfloat16 cauchy_ cfloat coalesce conj conj_physical dense_dim "
    "dequantize eig geometric_ geqrf half igamma igammac imag indices is_coalesced "
    "is_conj is_cpu is_meta is_neg is_pinned is_quantized isreal log_normal_ lstsq lu "
    "lu_solve map_ nonzero_static orgqr ormqr "
    "record_stream resize resolve_conj resolve_neg sparse_dim sparse_mask storage sum_to_size symeig to_dense "
    "to_mkldnn to_sparse to_sparse_csr triangular_solve values"
).split()


def absent(owner: str, name: str, present: Iterable[str]) -> AttributeError:
    """The error for a name that `owner` (a module or "Tensor") lacks; `present` are the names it has."""
    if name.startswith("_"):
        return AttributeError(f"{owner} has no attribute {name!r}")
    what = f"'{owner}' object" if owner == "Tensor" else f"module '{owner}'"
    text = f"{what} has no attribute {name!r}"
    if name in PYTORCH or name in ADVICE or (owner == "Tensor" and name in TENSOR):
        text += ": PyTorch has it, Adjoint does not have it yet"
        if name in ADVICE:
            text += f"; {ADVICE[name]}"
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
