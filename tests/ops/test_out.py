"""The keyword `out`: for every function that takes it, and which do, as PyTorch has it; what happens to `out` otherwise."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.ops import short
from adjoint.ops.results import TAKES_OUT
from adjoint.testing.operators import RECORDS, OpRecord
from adjoint.testing.operators.record import flat, sample, tensors

SHORT = frozenset("add sub div pow square where sum matmul".split()).union(short.functions) - short.WITHOUT_OUT
KNOWN = (TAKES_OUT | SHORT) - {"floor_div"}  # which PyTorch has not


class Listening:
    """A module of a library whose functions work as ever, and are noted in `heard` with their arguments and results."""

    def __init__(self, module: Any, heard: list, path: str = "") -> None:
        self._module, self._heard, self._path = module, heard, path

    def __getattr__(self, name: str) -> Any:
        value, path = getattr(self._module, name), f"{self._path}{name}"
        if isinstance(value, types.ModuleType):
            return Listening(value, self._heard, path + ".")
        if isinstance(value, type) or not callable(value):
            return value

        def call(*args: Any, **options: Any) -> Any:
            result = value(*args, **options)
            self._heard.append((path, value, args, options, result))
            return result

        return call


def calls(library: Any, record: OpRecord, dtype: str) -> Iterator[tuple[str, Callable, tuple, dict, Any]]:
    """The public functions that a record calls on its samples: path, function, arguments, options, result."""
    for s in record.draw(dtype):
        heard: list[Any] = []
        try:
            record.run(Listening(library, heard), *tensors(library, s.args), **tensors(library, s.options))
        except (TypeError, RuntimeError, AttributeError, NotImplementedError):
            if library is torch:  # PyTorch may lack what the record asks for
                raise
        for call in heard:
            results = flat(call[-1])
            if results and all(isinstance(t, library.Tensor) for t in results) and "out" not in call[3]:
                yield call


# Functions that no record calls by these names.
OTHERS = [
    OpRecord("rand", lambda draw: [sample(2, 3)]),
    OpRecord("randn", lambda draw: [sample(2, 3)]),
    OpRecord("randint", lambda draw: [sample(9, (2, 3))]),
    OpRecord("randperm", lambda draw: [sample(5)]),
    OpRecord("normal", lambda draw: [sample(0.0, 1.0, (3,)), sample(draw(3), 2.0)]),
    OpRecord("bernoulli", lambda draw: [sample(draw(3))], domain=(0.1, 0.9)),
    OpRecord("multinomial", lambda draw: [sample(draw(3), 2)], domain=(0.1, 0.9)),
    OpRecord("empty", lambda draw: [sample(0, 3)]),
    OpRecord("all", lambda draw: [sample(draw.mask(2, 3)), sample(draw.mask(2, 3), 1)]),
    OpRecord("any", lambda draw: [sample(draw.mask(2, 3)), sample(draw.mask(2, 3), 1)]),
    OpRecord("clamp_min", lambda draw: [sample(draw(3), 0.5)]),
    OpRecord("clamp_max", lambda draw: [sample(draw(3), 0.5)]),
    OpRecord("ldexp", lambda draw: [sample(draw(3), draw.integers(0, 4, 3))]),
    OpRecord("cross", lambda draw: [sample(draw(2, 3), draw(2, 3), 1)]),
    OpRecord("bitwise_left_shift", lambda draw: [sample(draw.integers(0, 4, 3), draw.integers(0, 4, 3))]),
    OpRecord("bitwise_right_shift", lambda draw: [sample(draw.integers(0, 4, 3), draw.integers(0, 4, 3))]),
    OpRecord("cholesky", lambda draw: [sample(np.eye(2, dtype=draw.dtype) * 4)]),
    OpRecord("qr", lambda draw: [sample(draw(3, 3))]),
    OpRecord("slogdet", lambda draw: [sample(draw(3, 3))]),
    OpRecord("inverse", lambda draw: [sample(np.eye(2, dtype=draw.dtype) * 4)]),
    OpRecord("lu_solve", lambda draw: [sample(draw(2, 1), np.eye(2, dtype=draw.dtype), np.array([1, 2], "int32"))]),
    OpRecord("linalg.eigvalsh", lambda draw: [sample(np.eye(2, dtype=draw.dtype) * 4)]),
    OpRecord("linalg.lstsq", lambda draw: [sample(np.eye(3, dtype=draw.dtype), draw(3, 2))]),
    OpRecord("linalg.matmul", lambda draw: [sample(draw(2, 3), draw(3, 2))]),
    OpRecord("i0", lambda draw: [sample(draw(3))]),
    OpRecord("polygamma", lambda draw: [sample(1, draw(3))], domain=(0.5, 2.0)),
    OpRecord("special.polygamma", lambda draw: [sample(1, draw(3))], domain=(0.5, 2.0)),
    OpRecord("hardshrink", lambda draw: [sample(draw(3))]),
    OpRecord("threshold", lambda draw: [sample(draw(3), 0.5, 7.0)]),
    OpRecord("special.logsumexp", lambda draw: [sample(draw(2, 3), 1)]),
    OpRecord("special.xlogy", lambda draw: [sample(draw(3), draw(3))], domain=(0.5, 2.0)),
    *[OpRecord(f"special.{n}", lambda draw: [sample(draw(3))], domain=(0.1, 0.9)) for n in "logit sinc expit erfinv psi gammaln i0".split()],
    *[OpRecord(n, lambda draw: [sample(draw(3), draw(3))]) for n in "subtract multiply true_divide greater not_equal arctan2".split()],
    *[OpRecord(n, lambda draw: [sample(draw(3))], domain=(0.1, 0.9)) for n in "absolute arccos negative fix isnan isinf relu".split()],
    OpRecord("concat", lambda draw: [sample([draw(3), draw(2)])]),
    OpRecord("clip", lambda draw: [sample(draw(3), 0.0, 1.0)]),
    OpRecord("nn.functional.avg_pool2d", lambda draw: [sample(draw(1, 1, 4, 4), 2)]),
    OpRecord("nn.functional.avg_pool3d", lambda draw: [sample(draw(1, 1, 2, 2, 2), 2)]),
    OpRecord("nn.functional.linear", lambda draw: [sample(draw(2, 3), draw(4, 3), draw(4))]),
    OpRecord("nn.functional.normalize", lambda draw: [sample(draw(2, 3))]),
    OpRecord("nn.functional.softplus", lambda draw: [sample(draw(3))]),
    *[OpRecord(f"nn.functional.{n}", lambda draw: [sample(draw(3))]) for n in "gelu hardshrink logsigmoid softshrink relu tanh silu elu".split()],
    OpRecord("nn.functional.softmax", lambda draw: [sample(draw(2, 3), 1)]),
    OpRecord("poisson", lambda draw: [sample(draw(3))], domain=(0.5, 2.0)),
    OpRecord("rand_like", lambda draw: [sample(draw(3))]),
    OpRecord("hann_window", lambda draw: [sample(4)]),
]  # fmt: skip
ALL = [pytest.param(r, id=r.name) for r in (*RECORDS.values(), *OTHERS)]


def path_of(path: str) -> str:
    """The name under which a function is in the table: itself, or that of which it is another name."""
    if path in KNOWN:
        return path
    function: Any = torch
    for part in path.split("."):
        function = getattr(function, part)
    for known in KNOWN:
        other: Any = torch
        for part in known.split("."):
            other = getattr(other, part, None)
        if other is function:
            return known
    return path


def array(t: Any) -> np.ndarray:
    return t.detach().numpy().copy()


def given(result: Any, outs: list[Any]) -> Any:
    return outs[0] if isinstance(result, torch.Tensor) else tuple(outs)


@pytest.mark.by_record
@pytest.mark.usefixtures("little_effort")
@pytest.mark.parametrize("record", ALL)
def test_out_gets_what_is_returned_without(record: OpRecord) -> None:
    for dtype in record.dtypes[-1:]:
        for path, function, args, options, _ in calls(torch, record, dtype):
            if path_of(path) not in KNOWN or (path == "where" and len(args) == 1):
                continue
            torch.manual_seed(3)
            result = function(*args, **options)
            want = [array(t) for t in flat(result)]
            bases = [torch.ones((2, *t.shape), dtype=t.dtype) for t in flat(result)]
            outs = [b[1] for b in bases]
            versions = [b._version for b in bases]
            torch.manual_seed(3)
            with torch.no_grad():
                found = function(*args, **options, out=given(result, outs))
            assert type(found) is type(result)
            assert all(a is b for a, b in zip(flat(found), outs, strict=True)), f"{path} returns out"
            assert all(b._version > v for b, v in zip(bases, versions, strict=True))
            for base, w in zip(bases, want, strict=True):
                if path != "empty":
                    np.testing.assert_allclose(array(base[1]), w, rtol=1e-5, atol=1e-6, err_msg=path)
                np.testing.assert_array_equal(array(base[0]), np.ones_like(w))


@pytest.mark.any_mode
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("record", [p for p in ALL if p.values[0].torch is True])
def test_the_functions_that_take_out_are_those_of_pytorch(record: OpRecord) -> None:
    reference = pytest.importorskip("torch")
    for dtype in record.dtypes[:1]:
        for path, function, args, options, result in calls(reference, record, dtype):
            outs = [reference.empty_like(t) for t in flat(result)]
            if path in ("where", "sum", "prod", "std", "median") and (len(args) == 1 or args[1] is False) and "dim" not in options:
                continue  # without dim PyTorch has no `out`; here it makes no difference
            if path == "where" and not isinstance(args[1], type(args[2])):
                continue
            try:
                with reference.no_grad():
                    function(*args, **options, out=outs[0] if isinstance(result, reference.Tensor) else tuple(outs))
                takes = True
            except TypeError:
                takes = False
            assert (path_of(path) in KNOWN) is takes, f"{path}: PyTorch {'takes' if takes else 'does not take'} out"


@pytest.mark.by_record
@pytest.mark.parametrize("record", ALL)
def test_a_function_without_out_says_so(record: OpRecord) -> None:
    for path, function, args, options, result in calls(torch, record, record.dtypes[0]):
        if path_of(path) not in KNOWN:
            with pytest.raises(TypeError):
                function(*args, **options, out=given(result, [torch.empty(0, dtype=t.dtype) for t in flat(result)]))


def test_every_name_of_the_table_is_called_here() -> None:
    heard = {path_of(call[0]) for p in ALL for dtype in p.values[0].dtypes for call in calls(torch, p.values[0], dtype)}
    assert not KNOWN - heard, f"no record calls {sorted(KNOWN - heard)}"


def test_methods_have_no_out() -> None:
    x, z = torch.ones(2, 2), torch.zeros(2, 2)
    for name in "exp add mul div pow square sum matmul mean cumsum clamp sort".split():
        with pytest.raises(TypeError):
            getattr(x, name)(*([x] if name in ("add", "mul", "div", "pow", "matmul") else []), out=z)
    assert z.sum().item() == 0


# --- what becomes of out ------------------------------------------------------------------------------------------------


def test_none_is_no_out() -> None:
    x = torch.tensor([1.0, 2.0])
    for function in (torch.exp, torch.mean, torch.sum, torch.nn.functional.gelu):
        assert torch.equal(function(x, out=None), function(x))
    assert torch.lerp(x, x, 0.5, out=None).tolist() == [1.0, 2.0]
    assert torch.zeros(2, out=None).tolist() == [0.0, 0.0]


def test_an_empty_out_is_resized_silently() -> None:
    out = torch.empty(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.add(torch.ones(2, 3), 1, out=out) is out
        torch.zeros(0, 3, out=torch.empty(5, 0))
    assert out.tolist() == [[2.0] * 3] * 2 and out.is_contiguous()


@pytest.mark.parametrize("shape", [(2,), (7,), (3, 1), ()])
def test_another_shape_is_resized_with_a_warning(shape: tuple) -> None:
    out = torch.zeros(shape)
    with pytest.warns(UserWarning, match=r"exp\(\): out has shape .* \[4\]: out is resized"):
        torch.exp(torch.zeros(4), out=out)
    assert out.shape == (4,) and out.tolist() == [1.0] * 4
    out.add_(1)
    assert out.sum().item() == 8


def test_the_warning_names_the_line_of_the_call() -> None:
    x = torch.zeros(4)
    for call in (lambda z: torch.exp(x, out=z), lambda z: torch.cumsum(x, 0, out=z), lambda z: torch.lerp(x, x, 0.5, out=z)):
        with pytest.warns(UserWarning) as caught:
            call(torch.zeros(2))
        assert caught[0].filename == __file__


def test_a_smaller_result_stays_in_the_memory() -> None:
    out = torch.zeros(3)
    view = out[1:]
    with pytest.warns(UserWarning):
        torch.ones(2, out=out)
    assert view.tolist() == [1.0, 0.0]


def test_memory_that_others_share_does_not_grow() -> None:
    base = torch.zeros(4)
    numbers = np.zeros(2, np.float32)
    for out in (base[:2], torch.from_numpy(numbers)):
        with pytest.warns(UserWarning), pytest.raises(RuntimeError, match=r"out has shape \[2\].*\[9\].*give an out of that shape"):
            torch.exp(torch.zeros(9), out=out)
        assert out.shape == (2,)


def test_out_may_be_an_operand_and_memory_of_numpy() -> None:
    x = torch.tensor([1.0, 2.0, 3.0])
    torch.cumsum(x, 0, out=x)
    assert x.tolist() == [1.0, 3.0, 6.0]
    torch.add(x[:2], x[1:], out=x[1:])
    assert x.tolist() == [1.0, 4.0, 9.0]
    numbers = np.zeros((2, 2), np.float32)
    torch.matmul(torch.eye(2), torch.ones(2, 2), out=torch.from_numpy(numbers))
    assert (numbers == 1).all()
    transposed = torch.zeros(2, 3)
    torch.arange(6.0).view(3, 2)
    torch.add(torch.arange(6.0).view(3, 2), 0, out=transposed.t())
    assert transposed.tolist() == [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]


def test_results_are_converted_where_a_category_allows_it() -> None:
    x = torch.tensor([1.5, 2.5])
    assert torch.exp(torch.tensor([0, 0]), out=torch.empty(2, dtype=torch.float64)).tolist() == [1.0, 1.0]
    assert torch.eq(x, x, out=torch.empty(2)).tolist() == [1.0, 1.0]
    assert torch.add(x, 1, out=torch.empty(2, dtype=torch.complex64)).dtype is torch.complex64
    for call in (
        lambda out: torch.exp(x, out=out),
        lambda out: torch.mul(x, 2, out=out),
        lambda out: torch.logsumexp(x, 0, out=out),
        lambda out: torch.lerp(x, x, 0.5, out=out),
    ):
        with pytest.raises(RuntimeError, match="result type Float can't be cast to the desired output type Long"):
            call(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(TypeError, match="can't be cast"):
        torch.cat([x, x], out=torch.empty(4, dtype=torch.int64))


def test_sums_and_new_tensors_take_the_dtype_of_out() -> None:
    whole = torch.tensor([1, 2])
    assert torch.sum(whole, 0, out=torch.empty((), dtype=torch.int32)).item() == 3
    assert torch.sum(torch.tensor([0.5, 1.5]), 0, out=torch.empty((), dtype=torch.int64)).item() == 1
    assert torch.sum(torch.full((1 << 12,), 0.1), 0, out=torch.empty((), dtype=torch.float64)).item() == pytest.approx(409.6, rel=1e-7)
    assert torch.zeros(3, out=torch.ones(3, dtype=torch.int64)).tolist() == [0, 0, 0]
    assert torch.arange(3, out=torch.empty(3)).tolist() == [0.0, 1.0, 2.0]
    assert torch.full((2,), 1.5, out=torch.empty(2, dtype=torch.int64)).tolist() == [1, 1]
    assert torch.randn(3, out=torch.empty(3, dtype=torch.float64)).dtype is torch.float64
    assert torch.zeros(2, out=torch.ones(2), requires_grad=True).requires_grad
    for call in (
        lambda: torch.zeros(3, dtype=torch.float32, out=torch.empty(3, dtype=torch.int64)),
        lambda: torch.sum(torch.ones(2), 0, dtype=torch.float64, out=torch.empty(())),
    ):
        with pytest.raises(RuntimeError, match="does not match the dtype of the out parameter"):
            call()


def test_derivatives_are_refused() -> None:
    x, w = torch.ones(2), torch.ones(2, requires_grad=True)
    for call in (
        lambda: torch.exp(w, out=torch.empty(2)),
        lambda: torch.exp(x, out=w),
        lambda: torch.exp(x, out=w * 1),
        lambda: torch.mul(x, w, out=torch.empty(2)),
        lambda: torch.matmul(w, x, out=torch.empty(())),
        lambda: torch.lerp(x, w, 0.5, out=torch.empty(2)),
        lambda: torch.softmax(w, 0, out=torch.empty(2)),
        lambda: torch.max(w, 0, out=(torch.empty(()), torch.empty((), dtype=torch.int64))),
        lambda: torch.zeros(2, out=w),
    ):
        with pytest.raises(RuntimeError, match=r"functions with out=... arguments don't support automatic differentiation"):
            call()
    assert torch.argmax(w, out=torch.empty((), dtype=torch.int64)).item() == 0
    assert torch.eq(w, x, out=torch.empty(2, dtype=torch.bool)).tolist() == [True, True]
    with torch.no_grad():
        assert torch.exp(x * 0, out=w) is w
    assert w.tolist() == [1.0, 1.0] and w.requires_grad and w.is_leaf
    torch.sum(w * 2).backward()
    assert w.grad.tolist() == [2.0, 2.0]


def test_derivatives_are_those_of_the_value_before() -> None:
    w = torch.ones(2, requires_grad=True)
    factor = torch.tensor([1.0, 2.0])
    loss = (w * factor).sum()
    torch.exp(torch.zeros(2), out=factor)
    loss.backward()
    assert w.grad.tolist() == [1.0, 2.0] and factor.tolist() == [1.0, 1.0]


def test_tuples_of_outs() -> None:
    x = torch.tensor([[3.0, 1.0], [2.0, 5.0]])
    values, indices = torch.empty(2), torch.empty(2, dtype=torch.int64)
    found = torch.max(x, 1, out=(values, indices))
    assert found.values is values and found.indices is indices
    assert values.tolist() == [3.0, 5.0] and indices.tolist() == [0, 1]
    a, b = torch.sort(x, out=[torch.empty(0), torch.empty(0, dtype=torch.int64)])
    assert a.tolist() == [[1.0, 3.0], [2.0, 5.0]] and b.tolist() == [[1, 0], [0, 1]]
    assert torch.max(x, out=torch.empty(())).item() == 5.0


@pytest.mark.parametrize(
    "call",
    [
        lambda x, z: torch.exp(x, out=3),
        lambda x, z: torch.exp(x, out=[z]),
        lambda x, z: torch.cumsum(x, 0, out=np.zeros(2)),
        lambda x, z: torch.max(x, 0, out=z),
        lambda x, z: torch.max(x, 0, out=(z,)),
        lambda x, z: torch.max(x, 0, out=(z, None)),
        lambda x, z: torch.where(x > 0, out=z),
        lambda x, z: torch.nn.functional.relu(x, out=z),
        lambda x, z: torch.isnan(x, out=z),
        lambda x, z: torch.relu(x, out=z),
        lambda x, z: torch.exp(out=z),
        lambda x, z: torch.exp(x, z),
        lambda x, z: torch.cumsum(x, "a", out=z),
    ],
)
def test_wrong_calls(call: Callable) -> None:
    x, z = torch.ones(2), torch.zeros(2)
    with pytest.raises(TypeError):
        call(x, z)
    assert z.tolist() == [0.0, 0.0]


def test_nothing_is_written_if_one_of_several_does_not_fit() -> None:
    values = torch.zeros(2)
    with pytest.raises(RuntimeError, match="can't be cast"):
        torch.max(torch.ones(2, 2), 1, out=(values, torch.empty(2, dtype=torch.bool)))
    assert values.tolist() == [0.0, 0.0]


def test_expanded_memory_is_refused() -> None:
    with pytest.raises(RuntimeError, match="single memory location"):
        torch.exp(torch.zeros(3), out=torch.zeros(1).expand(3))


def test_functions_with_out_take_their_first_operand_by_name() -> None:
    x = torch.tensor([4.0])
    assert torch.sqrt(input=x).item() == 2.0
    assert torch.mul(input=x, other=2).item() == 8.0
    assert torch.sqrt(input=x, out=torch.empty(1)).item() == 2.0


# --- elsewhere ------------------------------------------------------------------------------------------------------------


def test_in_a_loop_there_is_nothing_to_compile() -> None:
    x, out = torch.rand(16, 16), torch.empty(16, 16)
    with torch.no_grad():
        for step in range(6):
            torch.matmul(x, x, out=out)
            torch.add(out, 1, out=out)
            assert torch.equal(out, x @ x + 1)
            if step == 3:
                before = torch.stats()["programs"]
    assert torch.stats()["programs"] == before


def test_in_a_compiled_function() -> None:
    out, total = torch.zeros(3), torch.zeros(())

    @torch.compile
    def f(x: Any) -> Any:
        torch.mul(x, 2, out=out)
        torch.sum(out, 0, out=total)
        return torch.exp(x, out=torch.empty(3))

    for i in range(6):
        x = torch.full((3,), float(i))
        assert torch.allclose(f(x), torch.exp(x))
        assert out.tolist() == [2.0 * i] * 3 and total.item() == 6.0 * i


def test_a_compiled_function_resizes() -> None:
    @torch.compile
    def f(x: Any) -> Any:
        return torch.mul(x, 2, out=torch.empty(0))

    for i in range(5):
        assert f(torch.full((3,), float(i))).tolist() == [2.0 * i] * 3


def test_under_vmap() -> None:
    rows = torch.arange(6.0).view(2, 3)

    def f(row: Any) -> Any:
        out = torch.empty(3)
        torch.mul(row, 2, out=out)
        return torch.add(out, 1, out=out)

    assert torch.vmap(f)(rows).tolist() == (rows * 2 + 1).tolist()


def test_under_autocast() -> None:
    x = torch.ones(2, 2)
    with torch.autocast("cpu"):
        assert torch.mm(x, x, out=torch.empty(2, 2)).tolist() == [[2.0, 2.0]] * 2
        assert torch.matmul(x, x, out=torch.empty(2, 2, dtype=torch.bfloat16)).dtype is torch.bfloat16
        assert torch.linalg.inv(x + torch.eye(2), out=torch.empty(2, 2)).dtype is torch.float32

