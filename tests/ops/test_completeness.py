"""Nothing public without a record, no primitive without its rows: the test that names what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import adjoint as torch
from adjoint.grad.explicit import FORWARD, REVERSE
from adjoint.grad.partials import PARTIALS
from adjoint.grad.transposes import TRANSPOSES
from adjoint.ir import reference
from adjoint.ir.prims import PRIMS
from adjoint.testing.operators import RECORDS
from adjoint.testing.operators.record import flat, leaf, tensors
from adjoint.trace.recorder import NOT_DIFFERENTIABLE

COVERED = {
    n
    for r in RECORDS.values()
    for n in (r.name, r.name.rpartition(".")[2], r.method, r.in_place, *r.covers)
}

# Public functions that are no operators on tensors, with where they are tested.
OTHER_FUNCTIONS = {
    "tests/autograd": "enable_grad inference_mode no_grad set_grad_enabled is_grad_enabled eager is_eager vmap "
    "set_anomaly_enabled is_anomaly_enabled is_anomaly_check_nan_enabled",
    "tests/ops/test_random.py": "Generator bernoulli get_rng_state initial_seed manual_seed multinomial normal poisson rand rand_like "
    "randint randint_like randn randn_like randperm seed set_rng_state binomial",
    "tests/ops/test_queries.py": "Size Tensor allclose device dtype empty equal finfo get_default_dtype iinfo is_floating_point "
    "is_nonzero is_tensor numel scalar_tensor set_default_dtype set_printoptions get_num_threads set_num_threads attach stats set_flush_denormal is_inference "
    "get_device is_same_size",
    "tests/ops/test_spellings.py": "BFloat16Tensor BoolTensor ByteTensor CharTensor DoubleTensor FloatTensor HalfTensor IntTensor LongTensor ShortTensor "
    "set_default_tensor_type",
    "tests/test_settings.py": "use_deterministic_algorithms are_deterministic_algorithms_enabled is_deterministic_algorithms_warn_only_enabled "
    "set_deterministic_debug_mode get_deterministic_debug_mode set_float32_matmul_precision get_float32_matmul_precision set_default_device "
    "get_default_device set_num_interop_threads get_num_interop_threads set_warn_always is_warn_always_enabled typename layout memory_format "
    "is_inference_mode_enabled",
    "tests/ops/test_in_place.py": "as_strided_ conj_physical_ detach_ resize_as_",
    "tests/test_amp.py": "autocast is_autocast_enabled get_autocast_dtype set_autocast_enabled set_autocast_dtype",
    "tests/test_alone.py": "is_autocast_cpu_enabled get_autocast_cpu_dtype get_autocast_gpu_dtype",
    "tests/test_published.py": "AcceleratorError Event OutOfMemoryError Stream SymBool SymFloat SymInt TypedStorage UntypedStorage get_device_module "
    "replace_torch sym_float sym_int sym_ite sym_max sym_min sym_not sym_sum while_loop",
    "tests/runtime": "VerificationError",
    "tests/ops/test_types.py": "promote_types result_type can_cast",
    "tests/io": "load save",
    "tests/ops/test_low_rank.py": "pca_lowrank svd_lowrank",
    "tests/test_why.py": "why",
    "tests/compiler": "compile",
    "tests/ops/test_exchange.py": "asarray from_dlpack frombuffer",
    "tests/nn": "dropout feature_dropout alpha_dropout feature_alpha_dropout dropout_ feature_dropout_ alpha_dropout_ feature_alpha_dropout_ "
    "embedding_renorm_ embedding_bag constant_pad_nd rnn_tanh_cell rnn_relu_cell lstm_cell gru_cell conv_transpose1d conv_transpose3d prelu hardshrink bilinear "
    "cosine_similarity pairwise_distance pdist rms_norm celu celu_ selu selu_ rrelu rrelu_ threshold threshold_ batch_norm instance_norm layer_norm "
    "group_norm embedding avg_pool1d adaptive_avg_pool1d adaptive_max_pool1d max_pool1d max_pool1d_with_indices max_pool2d max_pool3d "
    "pixel_shuffle pixel_unshuffle channel_shuffle binary_cross_entropy_with_logits cosine_embedding_loss ctc_loss hinge_embedding_loss kl_div "
    "margin_ranking_loss poisson_nll_loss triplet_margin_loss",
}
OTHER_METHODS = {
    "tests/autograd": "backward detach detach_ grad grad_dtype grad_fn is_leaf register_hook "
    "register_post_accumulate_grad_hook requires_grad requires_grad_ retain_grad retains_grad data",
    "tests/ops/test_random.py": "bernoulli bernoulli_ cauchy_ exponential_ geometric_ log_normal_ multinomial normal_ random_ uniform_",
    "tests/ops/test_exchange.py": "__dlpack__ __dlpack_device__ __rmatmul__",
    "tests/trace/test_views.py": "adjoint as_strided_ dsplit hsplit is_set_to resize_ resize_as_ set_ squeeze_ storage_offset swapaxes_ "
    "swapdims_ t_ transpose_ unsqueeze_ untyped_storage vsplit",
    "tests/ops/test_queries.py": "H T allclose cpu cuda data_ptr device dim dtype element_size equal get_device is_complex is_contiguous is_cuda "
    "is_floating_point is_inference is_nonzero is_same_size is_signed is_sparse itemsize layout mH mT names nbytes ndim ndimension nelement numel output_nr real shape size "
    "stride __array__ __array_priority__ __array_ufunc__ __array_wrap__ __bool__ __contains__ __copy__ __deepcopy__ __float__ __index__ __int__ __iter__ __len__ "
    "share_memory_ is_shared pin_memory is_pinned is_distributed is_cpu is_meta is_sparse_csr is_quantized is_mkldnn is_nested is_mps is_vulkan "
    "is_xla is_xpu is_ipu is_maia is_mtia storage const_data_ptr dim_order new apply_ map_ map2_",
    "tests/ops/test_spellings.py": "to_dense",
    "tests/ops/test_types.py": "half bfloat16",
    "tests/ops/test_numeric.py": "float_power_ conj_physical_",
    "tests/nn": "hardshrink prelu",
}


def names(table: dict[str, str]) -> set[str]:
    return {n for listed in table.values() for n in listed.split()}


def test_every_public_function_has_a_record() -> None:
    public = {n for n in dir(torch) if not n.startswith("_") and callable(getattr(torch, n))}
    missing = public - COVERED - names(OTHER_FUNCTIONS)
    assert not missing, (
        f"no record covers {sorted(missing)}: add a row in adjoint/testing/operators"
    )


@pytest.mark.parametrize("module", ["linalg", "special", "fft"])
def test_every_function_of_a_module_has_a_record(module: str) -> None:
    functions = {
        n
        for n in getattr(torch, module).__all__
        if not isinstance(getattr(getattr(torch, module), n), type)
    }
    missing = {n for n in functions if f"{module}.{n}" not in COVERED}
    assert not missing, f"no record covers {sorted(missing)} of torch.{module}"


def test_every_method_has_a_record() -> None:
    plain = set(dir(type("Empty", (), {})))
    public = {
        n
        for n in dir(torch.ones(1))
        if n not in plain and (n.startswith("__") or not n.startswith("_"))
    } - {"__annotations__", "__slots__"}
    missing = public - COVERED - names(OTHER_METHODS)
    assert not missing, f"no record covers the methods {sorted(missing)}"


def test_exceptions_are_not_covered_twice() -> None:
    """A name that has a record needs no exemption: the lists above stay short."""
    public = set(dir(torch))
    stale = (names(OTHER_FUNCTIONS) & {r.name for r in RECORDS.values()}) & public
    assert not stale, f"{sorted(stale)} have records; take them off the list"


def test_every_primitive_has_its_rows() -> None:
    tables = {*PARTIALS, *TRANSPOSES, *(REVERSE.keys() & FORWARD.keys())}
    for name, prim in PRIMS.items():
        if prim.kind != "boundary":
            assert name in reference.REFERENCE, f"{name} has no NumPy reference"
        if prim.kind != "boundary" and name not in ("const", "pick"):
            assert (name in tables) != (name in NOT_DIFFERENTIABLE), (
                f"{name} needs a derivative row or a place among NOT_DIFFERENTIABLE"
            )
        if prim.linear and name not in ("pick", "const") and prim.kind != "pointwise":
            assert name in TRANSPOSES, f"{name} is linear and has no transpose"
    assert set(reference.REFERENCE) <= set(PRIMS), "a reference row without a primitive"
    assert REVERSE.keys() == FORWARD.keys(), "both derivatives or none"


def test_pointwise_primitives_have_machine_code() -> None:
    from adjoint.codegen import scalars

    tables = [v for v in vars(scalars).values() if isinstance(v, dict) and "add" in v]
    compiled = {n for t in tables for n in t}
    on_host = {"real", "imag", "conj", "complex"}
    missing = {n for n, p in PRIMS.items() if p.kind == "pointwise"} - compiled - on_host
    assert not missing, f"no machine code for {sorted(missing)}"


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The primitives that reference mode evaluates."""
    seen: set[str] = set()

    def watch(name: str, row: Any) -> Any:
        def evaluate(values: Any, attrs: Any) -> Any:
            seen.add(name)
            return row(values, attrs)

        return evaluate

    for name, row in reference.REFERENCE.items():
        monkeypatch.setitem(reference.REFERENCE, name, watch(name, row))
    with torch.eager():
        yield seen


def test_every_primitive_is_exercised(spied: set[str]) -> None:
    """By a record's value or its gradient: what these tests cannot reach is dead."""
    for record in RECORDS.values():
        for s in record.draw(record.dtypes[-1]):
            out = flat(
                record.run(torch, *tensors(torch, s.args, leaf), **tensors(torch, s.options))
            )
            live = [o for o in out if o.requires_grad]
            if live:
                sum((o * o).sum() for o in live).backward()
    torch.rand(2)
    made = {"const", "full"}  # numbers in the graph: reference mode fills without asking the table
    missing = {n for n, p in PRIMS.items() if p.kind != "boundary"} - spied - made
    assert not missing, f"no record exercises {sorted(missing)}"
