"""What published libraries ask of `torch` besides tensors: control flow as functions, named operators, files, contexts, checks."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint._higher_order_ops import associative_scan, scan
from adjoint.utils import _pytree as trees

# --- in the place of torch -----------------------------------------------------------------------------------------------


def run(code: str, *arguments: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *(arguments or ("-c", textwrap.dedent(code)))],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(torch.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_libraries_import_as_torch() -> None:
    said = run("""
        import adjoint
        adjoint.replace_torch()
        adjoint.replace_torch()
        import importlib, importlib.metadata, importlib.util
        import torch, torch.nn.functional as F
        from torch import nn
        from torch.utils.data import DataLoader
        from torch.cuda.amp import autocast
        from torch.optim.lr_scheduler import LambdaLR
        assert torch is adjoint and F is adjoint.nn.functional and nn.Linear is adjoint.nn.Linear
        assert adjoint.nn.functional.__spec__.name == "adjoint.nn.functional"
        assert importlib.metadata.version("torch") == torch.__version__
        assert "torch" in importlib.metadata.packages_distributions()
        assert importlib.util.find_spec("torch") is not None and importlib.util.find_spec("numpy").origin.endswith("py")
        try:
            import torch.nothing.below
        except ModuleNotFoundError as error:
            assert error.name == "torch.nothing", error.name
        print(F.relu(torch.tensor([-1.0, 1.0])).tolist())
    """)
    assert said == "[0.0, 1.0]\n"


def test_who_has_imported_pytorch_is_told() -> None:
    said = run("""
        import sys, types
        sys.modules["torch"] = types.ModuleType("torch")
        import adjoint
        try:
            adjoint.replace_torch()
        except RuntimeError as error:
            print(error)
    """)
    assert "imported already" in said


def test_the_command_runs_a_script_of_pytorch(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("import torch\nONE = torch.ones(1)\n")
    (tmp_path / "script.py").write_text("import sys, torch\nfrom helper import ONE\nprint(sys.argv[1:], (ONE + torch.ones(1)).item())\n")
    assert run("", "-m", "adjoint", "run", "script.py", "--rate", "2", cwd=tmp_path) == "['--rate', '2'] 2.0\n"


# --- control flow ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [*range(2, 12), 33])
def test_a_recurrence_as_a_scan(length: int) -> None:
    torch.manual_seed(length)
    a, b = (torch.randn(2, length, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    _, found = associative_scan(lambda x, y: (x[0] * y[0], y[0] * x[1] + y[1]), (a, b), 1)
    h, steps = torch.zeros(2, 3, dtype=torch.float64), []
    for t in range(length):
        h = a[:, t] * h + b[:, t]
        steps.append(h)
    wanted = torch.stack(steps, 1)
    assert torch.allclose(found, wanted)
    for x, y in zip(torch.autograd.grad(found.sum(), (a, b)), torch.autograd.grad(wanted.sum(), (a, b)), strict=True):
        assert torch.allclose(x, y)
    assert torch.allclose(associative_scan(torch.add, b, -2, reverse=True), b.flip(1).cumsum(1).flip(1))
    carry, ys = scan(lambda c, x: (c + x, c * x), torch.zeros(2, 3, dtype=torch.float64), b, dim=1)
    assert torch.allclose(carry, b.sum(1)) and ys.shape == (length, 2, 3)


def test_decisions() -> None:
    x = torch.tensor(3.0, requires_grad=True)
    torch.cond(x > 2, lambda x: x * x, lambda x: x, (x,)).backward()
    assert x.grad == 6
    assert torch.while_loop(lambda i: i < 5, lambda i: i + 2, (torch.tensor(0),))[0] == 6
    for call in (
        lambda: torch.cond(torch.ones(2), abs, abs, (x,)),
        lambda: torch.cond(True, 1, abs, (x,)),
        lambda: torch.while_loop(lambda i: False, abs, x),
        lambda: torch.while_loop(lambda i: i < 2, lambda i: (i, i), (torch.tensor(0),)),
    ):
        with pytest.raises(RuntimeError, match=r"torch\.(cond|while_loop)"):
            call()
    with pytest.raises(ValueError, match="equally long"):
        associative_scan(torch.add, (torch.ones(2), torch.ones(3)), 0)


# --- operators ---------------------------------------------------------------------------------------------------------


def test_an_operator_with_a_derivative() -> None:
    kept: list[Any] = []

    def setup(ctx: Any, inputs: Any, output: Any) -> None:
        kept[:] = [len(inputs), ctx.needs_input_grad]
        ctx.save_for_backward(inputs[0])
        ctx.times = inputs[2]

    @torch.library.custom_op("tests::scaled_square", mutates_args=())
    def scaled_square(x: torch.Tensor, y: torch.Tensor, *, times: float = 2.0) -> torch.Tensor:
        return x * x * times + y.detach()

    with pytest.raises(RuntimeError, match="no autograd formula"):
        scaled_square(torch.ones(2, requires_grad=True), torch.ones(2)).sum().backward()
    torch.library.register_autograd("tests::scaled_square", lambda ctx, g: (2 * ctx.times * ctx.saved_tensors[0] * g, None, None), setup_context=setup)
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = torch.ops.tests.scaled_square.default(x, torch.ones(2), times=3.0)
    assert y.tolist() == [4.0, 13.0]
    y.sum().backward()
    assert x.grad.tolist() == [6.0, 12.0] and kept == [3, (True, False, False)]
    torch.library.register_kernel("tests::scaled_square", "cpu", lambda x, y, times: x + y)
    assert scaled_square(torch.ones(2), torch.ones(2)).tolist() == [2.0, 2.0]


def test_an_operator_that_changes_its_argument() -> None:
    def fill(x: torch.Tensor) -> None:
        x.fill_(7.0)

    torch.library.custom_op("tests::fill", fill, mutates_args=("x",))
    x = torch.zeros(2)
    torch.ops.tests.fill(x)
    assert x.tolist() == [7.0, 7.0]


def test_wrong_operators() -> None:
    with pytest.raises(ValueError, match="namespace::name"):
        torch.library.custom_op("plain", abs, mutates_args=())
    with pytest.raises(RuntimeError, match="does not exist"):
        torch.library.register_fake("tests::nothing", abs)
    with pytest.raises(AttributeError, match="no namespace"):
        torch.ops.nowhere  # noqa: B018
    same = torch.library.custom_op("tests::same", lambda x: x, mutates_args=())
    with pytest.raises(RuntimeError, match="clone"):
        same(torch.ones(2))


# --- memory ------------------------------------------------------------------------------------------------------------


def test_files_are_read_slice_by_slice(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32)
    (tmp_path / "numbers").write_bytes(b"head" + values.tobytes())
    storage = torch.UntypedStorage.from_file(str(tmp_path / "numbers"), shared=False, nbytes=52).untyped()
    assert len(storage) == 52 and bytes([storage[0]]) == b"h"
    found = torch.asarray(storage[4:28], dtype=torch.uint8).view(dtype=torch.float32).reshape(2, 3)
    np.testing.assert_array_equal(found.numpy(), values[:6].reshape(2, 3))
    p = torch.nn.Parameter(torch.asarray(storage[28:52], dtype=torch.uint8).view(dtype=torch.float32).reshape(2, 3))
    assert p._escape is None and p._base is None  # memory of its own, which programs need not copy
    with torch.no_grad():
        p.mul_(2)
    np.testing.assert_array_equal(p.detach().numpy(), 2 * values[6:].reshape(2, 3))
    np.testing.assert_array_equal(np.fromfile(tmp_path / "numbers", np.uint8)[4:].view(np.float32), values)
    with pytest.raises(RuntimeError, match="torch.save"):
        torch.UntypedStorage.from_file(str(tmp_path / "numbers"), shared=True)
    some = torch.ones(2).untyped_storage()[4:]
    assert some.nbytes() == 4 and torch.asarray(some).view(torch.float32).tolist() == [1.0]


@pytest.mark.parametrize("size", [8, 40_000])
def test_a_parameter_takes_the_memory_it_is_made_of_as_other_numbers(size: int) -> None:
    b = torch.arange(size).to(torch.uint8) % 100
    part = b[2:6]
    v = b.view(dtype=torch.float32).reshape(2, -1)
    p = torch.nn.Parameter(v)
    assert b._base is p and v._base is p
    with torch.no_grad():
        p.mul_(2)
    np.testing.assert_array_equal(b.tolist(), p.detach().numpy().reshape(-1).view(np.uint8))
    b[0:4] = torch.tensor([0, 0, 128, 63], dtype=torch.uint8)
    assert p[0, 0].item() == 1.0 == v[0, 0].item() and part.tolist() == b[2:6].tolist()
    (p * 3).sum().backward()
    assert p.grad is not None and p.grad.unique().tolist() == [3.0]


def test_dtypes_that_are_names() -> None:
    info = torch.finfo(torch.float8_e4m3fn)
    assert (info.max, info.eps, info.bits) == (448.0, 0.125, 8) and torch.finfo(torch.float8_e8m0fnu).min > 0
    assert torch.ones(1).dtype is not torch.float8_e5m2 and pickle.loads(pickle.dumps(torch.float8_e5m2)) is torch.float8_e5m2
    for call in (lambda: torch.ones(2, dtype=torch.float8_e4m3fn), lambda: torch.ones(2).to(torch.float8_e5m2)):
        with pytest.raises(NotImplementedError, match="bfloat16"):
            call()


# --- devices -----------------------------------------------------------------------------------------------------------


def test_the_context_of_a_device() -> None:
    with torch.device("meta"):
        layer = torch.nn.Linear(2, 3)
        assert layer.weight.device == torch.device("meta") == torch.get_default_device()
        seen: list[Any] = []
        other = threading.Thread(target=lambda: seen.append(torch.ones(1).device.type))
        other.start()
        other.join()
        with torch.device("cpu"):
            assert torch.ones(1).device.type == "cpu"
    assert layer.weight.device.type == "cpu" and seen == ["cpu"] and layer(torch.ones(1, 2)).shape == (1, 3)
    with pytest.raises(RuntimeError, match="not available"), torch.device("cuda"):
        pass
    assert torch.get_default_device().type == "cpu"


@pytest.mark.parametrize("kind", ["cuda", "xpu", "mps"])
def test_devices_that_are_not_there(kind: str) -> None:
    module = getattr(torch, kind)
    assert torch.get_device_module(kind) is module and not module.is_available() and module.device_count() == 0
    assert isinstance(module.Event, type) and not isinstance(torch.ones(1), module.Event)
    with pytest.raises(AssertionError, match="is_available"):
        module.synchronize()
    with pytest.raises(AttributeError, match="nothing_like_it"):
        module.nothing_like_it  # noqa: B018
    assert torch.cuda.max_memory_allocated() == 0 and torch.cuda.is_bf16_supported() is False
    with pytest.raises(RuntimeError, match="does not have a corresponding module"):
        torch.get_device_module("xla")


def test_old_addresses() -> None:
    from adjoint.nn.modules.module import _EXTRA_STATE_KEY_SUFFIX, _IncompatibleKeys

    from adjoint.cuda.amp import GradScaler, autocast, custom_bwd, custom_fwd
    from adjoint.cuda.random import manual_seed_all
    from adjoint.distributed.fsdp import FullyShardedDataParallel
    from adjoint.distributed.tensor import DTensor

    assert issubclass(autocast, torch.autocast) and issubclass(GradScaler, torch.amp.GradScaler)
    assert callable(custom_fwd) and callable(custom_bwd) and callable(manual_seed_all)
    assert _EXTRA_STATE_KEY_SUFFIX == "_extra_state" and _IncompatibleKeys([], []) == ([], [])
    for kind in (DTensor, FullyShardedDataParallel, torch.jit.ScriptModule, torch.SymInt, torch.Stream):
        assert not isinstance(torch.nn.Linear(1, 1), kind)
        with pytest.raises(RuntimeError, match=kind.__name__):
            kind()
    assert torch.functional.einsum is torch.einsum and torch.serialization.load is torch.load
    assert isinstance(2.5, torch.types.Number) and issubclass(torch.cuda.OutOfMemoryError, RuntimeError)


def test_what_is_asked_while_libraries_are_imported() -> None:
    import adjoint.backends.cudnn as cudnn

    from adjoint.nn.parallel.distributed import DistributedDataParallel
    from adjoint.overrides import TorchFunctionMode
    from adjoint.serialization import MAP_LOCATION  # noqa: F401
    from adjoint.utils.dlpack import from_dlpack, to_dlpack

    assert cudnn is torch.backends.cudnn and not cudnn.is_available() and not torch.backends.opt_einsum.is_available()
    assert DistributedDataParallel is torch.nn.parallel.DistributedDataParallel and torch.torch is torch
    torch._C._log_api_usage_once("tests")
    x = torch.zeros(2)
    from_dlpack(to_dlpack(x)).add_(1)
    assert x.tolist() == [1.0, 1.0] and x.layout is not torch.sparse_coo
    assert "threads" in torch.__config__.parallel_info() and "numpy" in torch.__config__.show()
    with pytest.raises(RuntimeError, match="wrap the functions"), TorchFunctionMode():
        pass


def test_modules_by_more_names() -> None:
    layer = torch.nn.Linear(2, 3)
    with pytest.raises(AssertionError, match="not available"):
        layer.cuda()
    assert torch.nn.ReLU().cuda().training  # nothing to move
    assert layer.type(torch.float64).weight.dtype is torch.float64
    assert layer.to_empty(device="cpu").weight.shape == (3, 2)
    assert layer._apply(lambda t: t.float()).bias.dtype is torch.float32
    wanted = layer(torch.ones(1, 2))
    layer.compile()
    assert torch.allclose(layer(torch.ones(1, 2)), wanted, equal_nan=True)


def test_an_optimizer_that_wraps_another() -> None:
    """As libraries do: a subclass that calls no `__init__` of the base class."""

    class Wrapped(torch.optim.Optimizer):
        def __init__(self, optimizer: Any) -> None:
            self.optimizer = optimizer

        def step(self, closure: Any = None) -> None:
            self.optimizer.step(closure)

        param_groups = property(lambda self: self.optimizer.param_groups)  # type: ignore[assignment]

    w = torch.ones(1, requires_grad=True)
    wrapped = Wrapped(torch.optim.SGD([w], lr=1.0))
    rates = torch.optim.lr_scheduler.LambdaLR(wrapped, lambda epoch: 0.5**epoch)
    for _ in range(2):
        (w * 2).sum().backward()
        wrapped.step()
        rates.step()
    assert rates.get_last_lr() == [0.25] and w.item() == -3.0


def test_a_loader_without_workers_fetches_nothing_ahead() -> None:
    data = torch.utils.data.TensorDataset(torch.arange(4))
    plain = torch.utils.data.DataLoader(data)
    assert plain.prefetch_factor is None and torch.utils.data.DataLoader(data, num_workers=1).prefetch_factor == 2
    again = torch.utils.data.DataLoader(data, num_workers=plain.num_workers, prefetch_factor=plain.prefetch_factor)
    assert [x.item() for (x,) in again] == [0, 1, 2, 3]


# --- conditions --------------------------------------------------------------------------------------------------------


def test_conditions() -> None:
    torch._check(True)
    torch._check_is_size(3, max=4)
    torch._check_tensor_all(torch.ones(2) > 0)
    torch._assert_async(torch.ones(1))
    for error, call in (
        (RuntimeError, lambda: torch._check(False, lambda: "what it is")),
        (IndexError, lambda: torch._check_index(False, lambda: "what it is")),
        (ValueError, lambda: torch._check_with(ValueError, False, lambda: "what it is")),
        (RuntimeError, lambda: torch._check_tensor_all(torch.zeros(2) > 0, lambda: "what it is")),
        (RuntimeError, lambda: torch._assert_async(torch.zeros(1), "what it is")),
    ):
        with pytest.raises(error, match="^what it is$"):
            call()
    with pytest.raises(TypeError, match="must be a bool"):
        torch._check(torch.ones(1))  # type: ignore[arg-type]
    assert torch.sym_max(1, 2.0) == 2.0 and type(torch.sym_min(1, 2.0)) is float and math.isclose(torch.sym_float(2), 2)


def test_types_that_scripts_ask_for() -> None:
    ask = torch.jit.isinstance
    assert ask({"a": (1, "b")}, dict[str, tuple[int, str]]) and not ask({"a": (1, 2)}, dict[str, tuple[int, str]])
    assert ask(None, int | None) and ask([torch.ones(1)], list[torch.Tensor]) and not ask((1, 2, 3), tuple[int, int])


def test_paths_in_trees() -> None:
    from typing import NamedTuple

    class Pair(NamedTuple):
        a: Any
        b: Any

    tree = {"w": [1, Pair(2, (3,))]}
    found = trees.tree_leaves_with_path(tree)
    assert [(trees.keystr(path), leaf) for path, leaf in found] == [("['w'][0]", 1), ("['w'][1].a", 2), ("['w'][1].b[0]", 3)]
    for path, leaf in found:
        part: Any = tree
        for key in path:
            part = key.get(part)
        assert part == leaf

    class Own:
        def __init__(self, x: Any) -> None:
            self.x = x

    trees.register_pytree_node(
        Own, lambda t: ([t.x], None), lambda parts, _: Own(*parts), flatten_with_keys_fn=lambda t: ([(trees.GetAttrKey("x"), t.x)], None)
    )
    assert trees.keystr(trees.tree_leaves_with_path(Own(1))[0][0]) == ".x"
    assert trees.tree_map_with_path(lambda path, x, y: (len(path), x + y), [1, [2]], [10, [20]]) == [(1, 11), [(2, 22)]]
    assert trees._dict_unflatten(*trees._dict_flatten({"a": 1})) == {"a": 1}
