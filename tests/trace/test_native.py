"""The recorder in native code does what the recorder in Python does, and hands over where it must."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.runtime import cpython
from adjoint.trace import native, recorder
from adjoint.trace.handle import Tensor
from adjoint.trace.state import Trace, fast, local
from adjoint.trace.trie import Step

installed = pytest.mark.skipif(not native.possible(), reason="not the interpreter that native code is written for")


@pytest.fixture(autouse=True)
def in_place() -> None:
    native.install()


@installed
def test_operators_are_native_methods() -> None:
    assert type(Tensor.__add__).__name__ == "method_descriptor"
    assert type(recorder._one).__name__ == "builtin_function_or_method"


@installed
def test_offsets_are_where_the_slots_are() -> None:
    import ctypes

    for cls, names in ((Tensor, ("_tid", "_data")), (Trace, ("id", "handles")), (Step, ("hot", "slot"))):
        for key, offset in cpython.offsets(cls, *names).items():
            one, mark = cls.__new__(cls), object()
            setattr(one, key.split(".")[1], mark)
            assert ctypes.c_void_p.from_address(id(one) + offset).value == id(mark)


SCRIPT = """
import sys
import numpy as np
import adjoint as torch
from adjoint.trace import native
if sys.argv[1] == "1":
    native.install()
rng = np.random.default_rng(0)
x = torch.tensor(rng.normal(size=(4, 3)))
w = torch.tensor(rng.normal(size=(3, 2)), requires_grad=True)
b = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
class Mine(torch.Tensor):
    pass
mine = Mine([1.0, 2.0])
scale = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
optimizer = torch.optim.Adam([scale], lr=0.01)
for i in range(80):
    optimizer.zero_grad()
    h = x @ w * scale + b
    h = (h * 2 - 1.5) / (3 + h * h) - 1 / (2.0 + h.exp())
    h = h + True + np.float64(0.5) + np.ones(1).sum() + mine.double() * i
    loss = (h ** 2).mean() + h.sigmoid().sum() - (i - h).abs().sum() * 1e-3
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for p in (w, b):
            p -= 0.01 / (i + 1) * p.grad
            p.grad.zero_()
    if i % 7 == 0:
        print(loss.item(), h[1:3].tolist(), scale.tolist(), scale.grad.tolist())
    try:
        h + torch.ones(5)
    except RuntimeError as error:
        if i == 3:
            print(error)
    try:
        h * "a"
    except TypeError as error:
        if i == 3:
            print(error)
print(w.tolist(), b.tolist(), torch.stats()["programs"])
"""


def test_native_and_python_record_the_same() -> None:
    found = [
        subprocess.run([sys.executable, "-c", SCRIPT, on], capture_output=True, text=True, check=True).stdout
        for on in "01"
    ]
    assert found[0] == found[1]
    assert found[0].count("\n") > 10


def walk(x: Any) -> Any:
    y = x * 2.0 - 1
    for _ in range(20):
        y = (y + x) * 0.5 / 1.5 - y.tanh()
    return y.sum()


@installed
@pytest.mark.skipif(local.trace.eager, reason="reference mode records in Python")
def test_references_are_given_back() -> None:
    x = torch.ones(3)
    for _ in range(50):
        walk(x).item()
    kept: tuple = (None, False, float, int, Tensor, (), 0.5, x, x._aval)
    before = [sys.getrefcount(k) for k in kept]
    for _ in range(200):
        walk(x).item()
    after = [sys.getrefcount(k) for k in kept]
    assert all(abs(a - b) < 50 for a, b in zip(after, before, strict=True)), (before, after)


def test_threads_take_turns() -> None:
    x = torch.tensor([0.5, -0.25, 1.0])
    expected = walk(x).item()
    wrong: list[float] = []

    def work(seed: int) -> None:
        mine = torch.tensor([0.5, -0.25, 1.0])
        for _ in range(100):
            got = walk(mine).item()
            if got != expected:
                wrong.append(got)

    for _ in range(3):  # a thread may get the number of one that has ended
        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for t in threads:
            t.start()
        here = walk(x)
        for t in threads:
            t.join()
        assert here.item() == expected
    assert not wrong


@installed
@pytest.mark.skipif(local.trace.eager, reason="reference mode records in Python")
def test_the_fast_path_comes_back_to_a_thread() -> None:
    def other() -> None:
        walk(torch.ones(2)).item()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    walk(torch.ones(2)).item()
    walk(torch.ones(2)).item()
    assert fast.owner is local.trace


def test_operands_of_every_kind() -> None:
    x = torch.tensor([1.0, 2.0])
    n = np.array([1.0, 2.0], np.float32)
    for _ in range(3):
        for other in (2, 2.5, True, np.float32(0.5), np.int64(3), torch.tensor(3), torch.tensor([1, 2]), torch.nn.Parameter(x)):
            value = other.detach().numpy() if isinstance(other, Tensor) else other
            assert np.allclose((x + other).detach().numpy(), n + value)
            if other is not True:
                assert np.allclose((x - other).detach().numpy(), n - value)
            assert np.allclose((x * other).detach().numpy(), n * value)
            assert np.allclose((x / other).detach().numpy(), n / value)
        with pytest.raises(RuntimeError, match="bool"):
            x - True
        for number in (2, 2.5):
            assert np.allclose((number - x).numpy(), number - n)
            assert np.allclose((number / x).numpy(), number / n)
        with pytest.raises(TypeError):
            x + object()
        with pytest.raises(TypeError):
            torch.exp("no")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            Tensor.__add__(x)  # type: ignore[call-arg]
        with torch.eager():
            assert (x + 1).tolist() == [2.0, 3.0]


COLLECTING = """
import gc
import adjoint as torch
from adjoint.trace import native
from adjoint.trace.state import local
native.install()
x = torch.tensor([0.5, 1.5])
def body():
    y = x
    for _ in range(8):
        y = (y * 1.5 - x).tanh() + x / 2
        y = torch.exp(-y * y) - 1.0
    return y
expected = body().tolist()
other = torch.tensor([1.0, 2.0, 3.0])
inside = False
def during(phase, info):
    global inside
    if phase == "stop" and not inside:
        inside = True
        try:
            ((other + 1) * 2.0).tolist()
        except (RuntimeError, KeyError):
            pass
        inside = False
gc.callbacks.append(during)
wrong = 0
for threshold in (31, 47, 61, 101, 233) * 40:
    gc.set_threshold(threshold)
    try:
        wrong += body().tolist() != expected
    except (RuntimeError, KeyError):
        pass
gc.callbacks.remove(during)
local.trace.start()
print(wrong, body().tolist() == expected)
"""


@pytest.mark.skipif(local.trace.eager, reason="CPython's context variables, np.errstate among them, do not survive it")
def test_a_collection_may_run_operations() -> None:
    """Whatever a collection runs while an operation is being recorded, the trace's lists hold what they should."""
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", COLLECTING], capture_output=True, text=True)
    assert done.stdout == "0 True\n", done.stderr


MISSING = """
import _testcapi
import adjoint as torch
from adjoint.trace import native
native.install()
x = torch.tensor([0.5, 1.5])
def body():
    a = torch.ones(2)
    y = (x * 1.5 - a).tanh() + x / 2
    z = 1.0 - y
    return torch.exp(-z * z) + z[0:1]
for _ in range(5):
    expected = body().tolist()
seen = set()
for n in range(120):
    for stop in (n + 1, 0):
        y = None
        try:
            _testcapi.set_nomemory(n, stop)
            try:
                y = body()
            finally:
                _testcapi.remove_mem_hooks()
        except MemoryError:  # or one that is a RuntimeError, too
            seen.add("MemoryError")
        except Exception as error:
            seen.add(type(error).__name__)
        try:
            assert y is None or y.tolist() == expected
            assert body().tolist() == expected
        except RuntimeError as error:
            assert "interrupted" in str(error)
        assert body().tolist() == expected
print(seen)
"""


@pytest.mark.skipif(local.trace.eager, reason="NumPy itself does not survive missing memory in np.errstate")
def test_missing_memory_is_an_error_of_its_own() -> None:
    pytest.importorskip("_testcapi")
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", MISSING], capture_output=True, text=True)
    assert done.stdout == "{'MemoryError'}\n", done.stderr


PATCHED = """
import adjoint as torch
calls = 0
plain = torch.Tensor.__add__
def counting(a, b):
    global calls
    calls += 1
    return plain(a, b)
torch.Tensor.__add__ = counting
x = torch.ones(3)
for _ in range(200):
    y = (x + 1) * 2
    assert y.tolist() == [4.0] * 3
torch.Tensor.__add__ = plain
assert (x + 1).tolist() == [2.0] * 3
from adjoint.trace import native
print(calls, native.installed, type(torch.Tensor.__mul__).__name__)
"""


@installed
def test_an_operator_that_the_user_has_replaced_stays() -> None:
    done = subprocess.run([sys.executable, "-c", PATCHED], capture_output=True, text=True)
    kind = "function" if local.trace.eager else "method_descriptor"
    assert done.stdout == f"200 {not local.trace.eager} {kind}\n", done.stderr


REFUSED = """
import sys
import warnings
import adjoint as torch
from adjoint.runtime import cpython
from adjoint.trace import native, recorder
warnings.simplefilter("ignore")
how = sys.argv[1]
def stop(*_):
    raise {"layout": LookupError("no such slot"), "interrupt": KeyboardInterrupt}[how]
if how == "rehearsal":
    names = cpython.offsets(native.Step, "slot", "aval")
    swapped = {"Step.slot": names["Step.aval"], "Step.aval": names["Step.slot"]}
    cpython.offsets = lambda cls, *n, given=cpython.offsets: {**given(cls, *n), **(swapped if "slot" in n else {})}
else:
    cpython.offsets = stop
x = torch.zeros(3)
stopped = 0
for _ in range(100):
    try:
        x += 1
        assert x.tolist()
    except KeyboardInterrupt:
        stopped += 1
print(x.tolist(), stopped, recorder._one is recorder.one_in_python, type(torch.Tensor.__add__).__name__)
"""


@installed
@pytest.mark.skipif(local.trace.eager, reason="reference mode records in Python")
@pytest.mark.parametrize("how", ["layout", "rehearsal", "interrupt"])
def test_where_it_cannot_be_installed_python_stays(how: str) -> None:
    done = subprocess.run([sys.executable, "-c", REFUSED, how], capture_output=True, text=True)
    assert done.stdout == f"[100.0, 100.0, 100.0] {int(how == 'interrupt')} True function\n", done.stderr


LATE = """
import adjoint as torch
from adjoint.trace import native
x = torch.ones(3)
for _ in range(100):
    with torch.eager():
        (x + 1).tolist()
before = native.installed
(x + 1).tolist()
print(before, native.installed)
"""


@pytest.mark.skipif(local.trace.eager, reason="reference mode records in Python")
def test_it_is_installed_also_where_the_trace_that_was_due_was_another() -> None:
    """The count may pass the place in reference mode, or between two threads."""
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True)
    assert done.stdout == "False True\n", done.stderr


def test_functions_outlive_the_modules_that_made_them() -> None:
    """What native functions are made of is read when they go, which may be after everything else has gone."""
    code = """
import gc, sys
import adjoint as torch
from adjoint.runtime import cpython, pool
from adjoint.trace import native
native.install()
x = torch.ones(3)
(x + 1).sum().item()
enter = pool.native_entry()
vars(cpython).clear()
gc.collect()
filler = [bytearray(32) for _ in range(100000)]
del enter
print("done")
"""
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "done\n", done.stderr


ROWS = """
import sys
import threading
import numpy as np
import adjoint as torch
from adjoint.trace import native
native.install()
assert type(vars(torch.Tensor)["__getitem__"]).__name__ == "method_descriptor"

def fill(n, *shape):
    return torch.arange(n * int(np.prod(shape)), dtype=torch.float32).reshape(n, *shape).clone()

def nested(x):
    return sum(x[i][j] * (i + 2 * j) for i in range(3) for j in range(2))

def changed(x):
    x = x + 0
    first = x[1]
    x[1] += 1
    second = x[1]
    first[0] = 100
    return torch.stack([x[1], second, first])

def other_numbers(x):
    order = changed.orders.pop() if changed.orders else [0, 1, 2]
    return torch.stack([x[i] for i in order])

def seen_by_numpy(x):
    x = x.clone()
    array = x.numpy()
    array[1] = 7
    return torch.stack([x[0], x[1], x[-1]])

def wrong(x):
    out = []
    for index in (5, -9, 1 << 70, True, None, 1.0, "a", (0, 0)):
        try:
            out.append(float(x[index].sum()))
        except Exception as error:
            out.append(len(type(error).__name__))
    return torch.tensor(out)

class Other(torch.Tensor):
    pass

def of_a_subclass(x):
    return torch.Tensor(x.tolist())[1] + Other(x.tolist())[1]

def gradient(x):
    x = x.clone().requires_grad_()
    (x[0] * x[1] * x[1]).sum().backward()
    return x.grad

def in_a_thread(x):
    out = []
    t = threading.Thread(target=lambda: out.append((x[0] + x[2]).tolist()))
    t.start(); t.join()
    return torch.tensor(out[0]) + x[1]

def places(x):
    pair = (2, 1)
    return sum(x[i, j] * (i + 2 * j) for i in range(3) for j in range(2)) + x[pair] + x[pair] + x[-1, 0] + x[2][1]

def odd_places(x):
    out = []
    for index in ((True, 0), (1, np.int64(1)), (1, torch.tensor(0)), (0, 2), (3, 0), (-4, 0), (0, 0, 0), (1 << 70, 0), (), (1.0, 0), (0, None)):
        for _ in range(2):
            first = x[1, 1]
            try:
                out.append(float(x[index].sum() + first))
            except Exception as error:
                out.append(len(type(error).__name__))
    return torch.tensor(out)

def places_of_parts(x):
    rows, turned = x[1:], x.t()
    return torch.stack([rows[i, j] - turned[j, i] for i in range(2) for j in range(2)])

def table(x):
    t = torch.zeros(4, 3)
    for i in range(1, 4):
        for j in range(1, 3):
            t[i, j] = x[i - 1, j - 1] + torch.min(t[i - 1, j], t[i, j - 1])
    return t

changed.orders = []
for f in (nested, places, odd_places, places_of_parts, table, changed, other_numbers, seen_by_numpy, wrong, of_a_subclass, gradient, in_a_thread):
    results = []
    for run in range(6):
        changed.orders = [[2, 0, 1]] if run % 2 else [[1, 1, 0]] if run == 4 else []
        orders = list(changed.orders)
        x = fill(3, 2)
        got = f(x).tolist()
        changed.orders = orders
        with torch.eager():
            expected = f(fill(3, 2)).tolist()
        assert got == expected, (f.__name__, run, got, expected)
print("same")
"""


def test_rows() -> None:
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", ROWS], capture_output=True, text=True)
    assert done.stdout == "same\n", done.stderr
