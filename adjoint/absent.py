"""What to say about a name that is not here: PyTorch names not covered yet, what to use instead, and misspellings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

ADVICE = {
    "compile": "every operation is recorded and compiled already; leave the call out",
    "jit": "every operation is recorded and compiled already; leave the call out",
    "amp": "computations keep the dtype of their operands; leave autocast and GradScaler out",
    "autocast": "computations keep the dtype of their operands; leave autocast out",
    "sparse": "tensors are dense; use a dense tensor, or index_add and gather",
    "sparse_coo_tensor": "tensors are dense; use a dense tensor, or index_add and gather",
    "fft": "use numpy.fft on t.numpy(), or a product with a matrix of cosines where a gradient is needed",
    "distributed": "a program runs in one process; its threads share the work of large operations",
    "multiprocessing": "use Python's multiprocessing with arrays",
    "quantization": "use float32",
    "onnx": "save the parameters with io.save_file (safetensors) and rebuild the model elsewhere",
    "hub": "load the parameters from a file",
    "as_strided": "use reshape, permute, expand and unfold, which say what is meant",
    "DataParallel": "threads share the work of large operations already; use the module itself",
    "SyncBatchNorm": "there is one process; use BatchNorm2d",
    "SparseAdam": "gradients are dense; use Adam",
    "cuda": "Adjoint computes on the CPU; use tensor.to('cpu'), which is the tensor itself",
    "half": "use .to(dtype) with a dtype of this package",
    "storage": "use numpy(), which shares the memory",
    "untyped_storage": "use numpy(), which shares the memory",
    "set_default_device": "tensors are made on the CPU; leave the call out",
    "set_default_tensor_type": "use set_default_dtype",
    "set_float32_matmul_precision": "products are computed in the dtype of their operands; leave the call out",
    "use_deterministic_algorithms": "results are always the same for the same input; leave the call out",
}
PYTORCH = frozenset(
    "as_strided compile jit amp autocast sparse sparse_coo_tensor fft distributed multiprocessing quantization onnx hub "
    "stft istft hann_window hamming_window blackman_window kaiser_window bartlett_window lobpcg svd_lowrank pca_lowrank "
    "lu lu_solve lu_unpack geqrf orgqr ormqr triangular_solve symeig eig lstsq histogram histogramdd unique_consecutive "
    "unravel_index vander igamma igammac polygamma i0 frexp ldexp gradient segment_reduce index_reduce put empty_strided "
    "from_dlpack to_dlpack frombuffer scalar_tensor set_default_device set_default_tensor_type "
    "set_float32_matmul_precision use_deterministic_algorithms ctc_loss grid_sample affine_grid max_unpool1d max_unpool2d "
    "max_unpool3d fractional_max_pool2d fractional_max_pool3d multi_margin_loss multilabel_margin_loss "
    "multilabel_soft_margin_loss pdist rrelu embedding_bag lp_pool1d lp_pool3d channel_shuffle feature_alpha_dropout "
    "CTCLoss DataParallel SyncBatchNorm EmbeddingBag FractionalMaxPool2d LPPool1d LPPool2d MaxUnpool2d LazyLinear "
    "LazyConv2d LazyBatchNorm2d AdaptiveLogSoftmaxWithLoss MultiMarginLoss MultiLabelMarginLoss MultiLabelSoftMarginLoss "
    "RReLU ChannelShuffle SparseAdam ASGD Adafactor Muon swa_utils parametrize parametrizations spectral_norm "
    "weight_norm prune fuse_conv_bn_eval skip_init detect_anomaly set_detect_anomaly profiler forward_ad vmap "
    "functionalize stack_module_state DistributedSampler LKJCholesky LowRankMultivariateNormal MixtureSameFamily "
    "NegativeBinomial Pareto RelaxedBernoulli RelaxedOneHotCategorical TransformedDistribution VonMises Weibull Wishart "
    "Kumaraswamy InverseGamma HalfCauchy FisherSnedecor ContinuousBernoulli householder_product ldl_factor ldl_solve "
    "lu_factor eigvals tensorinv tensorsolve bessel_j0 bessel_j1 bessel_y0 bessel_y1 i0e i1 i1e ndtri log_ndtr erfcx "
    "zeta airy_ai cuda half bfloat16 storage untyped_storage set_ resize_ sparse_mask to_sparse share_memory_ "
    "pin_memory register_post_accumulate_grad_hook apply_ map_ put_ is_pinned".split()
)


def absent(owner: str, name: str, present: Iterable[str]) -> AttributeError:
    """The error for a name that `owner` (a module or "Tensor") lacks; `present` are the names it has."""
    if name.startswith("_"):
        return AttributeError(f"{owner} has no attribute {name!r}")
    what = f"'{owner}' object" if owner == "Tensor" else f"module '{owner}'"
    text = f"{what} has no attribute {name!r}"
    if name in PYTORCH or name in ADVICE:
        text += ": PyTorch has it, Adjoint does not have it yet"
        if name in ADVICE:
            text += f"; {ADVICE[name]}"
    else:
        close = difflib.get_close_matches(name, [p for p in present if not p.startswith("_")], 3, 0.75)
        if close:
            text += f". Did you mean: {', '.join(repr(c) for c in close)}?"
    return AttributeError(text)
