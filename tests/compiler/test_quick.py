"""Known calls that are native from end to end: that they are taken, and that nothing is taken for one that is not."""

import gc
import sys
import threading

import numpy as np
import pytest

import adjoint as torch
from adjoint.compiler import quick
from adjoint.compiler.quick import Record
from adjoint.runtime import jit, memory, tally
from adjoint.trace import native
from adjoint.trace.recorder import flush, local

pytestmark = pytest.mark.skipif(torch.is_eager() or not jit.available() or not native.possible(), reason="calls stay in Python here")


def product(a, b):
    return torch.matmul(a, b)


def matrix(seed, n=16):
    return torch.tensor(np.random.default_rng(seed).random((n, n), dtype=np.float32))


def known(function, *args, calls=8):
    """`function` compiled, and called until its calls are native."""
    f = torch.compile(function)
    for _ in range(calls):
        f(*args).tolist()
    return f


def natively(f):
    return sum(q.record.calls for q in f._quick.values() if isinstance(q.record, Record))


def same(f, function, *args):
    """One more call gives what the function gives; whether it was native."""
    before = natively(f)
    got = f(*args)
    taken = natively(f) > before
    expected = function(*args)
    assert got.dtype == expected.dtype and got.shape == expected.shape
    np.testing.assert_array_equal(got.detach().numpy(), expected.detach().numpy())
    assert got.requires_grad == expected.requires_grad
    return taken


def test_known_call_is_native():
    a, b = matrix(1), matrix(2)
    f = known(product, a, b)
    for k in range(50):
        assert same(f, product, a, matrix(k + 3))
    before, runs = natively(f), torch.stats()["runs"]
    for _ in range(10):
        f(a, b)
    assert natively(f) == before + 10 and torch.stats()["runs"] == runs + 10
    assert f.replays >= before + 10


def test_results_have_memory_of_their_own():
    a, b = matrix(1), matrix(2)
    f = known(product, a, b)
    inputs = [matrix(k) for k in range(300)]
    for x in inputs:
        x.tolist()
    results = [f(a, x) for x in inputs]
    arrays = [f(a, x).numpy() for x in inputs[:20]]  # whose tensors are gone
    for _ in range(200):
        f(b, b.clone())
    gc.collect()
    for x, y in zip(inputs, results, strict=True):
        np.testing.assert_array_equal(y.numpy(), product(a, x).numpy())
    for x, y in zip(inputs[:20], arrays, strict=True):
        np.testing.assert_array_equal(y, product(a, x).numpy())
    assert natively(f) > 200


def test_memory_given_back_to_the_system_is_not_written():
    a, b = matrix(1), matrix(2)
    f = known(product, a, b)
    expected = product(a, b).numpy().copy()
    for _ in range(5):
        memory.trim()
        gc.collect()
        results = [f(a, b) for _ in range(9)]
        for y in results:
            np.testing.assert_array_equal(y.numpy(), expected)


class Other(torch.Tensor):
    pass


def arguments():
    a, b = matrix(1), matrix(2)
    whole = matrix(3, 32)
    escaped = matrix(4)
    escaped.numpy()[0, 0] = 7.0
    leaf = matrix(5).requires_grad_()
    changed = matrix(6)
    changed.tolist()
    changed[0, 0] = 3.0
    return {
        "others": (b, a),
        "one twice": (a, a),
        "a view": (whole[:16, 16:], b),
        "a transposed view": (a.t(), b),
        "memory that NumPy sees": (escaped, b),
        "a leaf": (leaf, b),
        "not computed yet": (a + 1, b),
        "changed and not computed": (changed, b),
        "float64": (a.double(), b.double()),
        "a vector": (a, b[0].clone()),
        "a parameter": (torch.nn.Parameter(matrix(7)), b),
        "a result of one": (None, b),
    }


@pytest.mark.parametrize("kind", arguments())
def test_arguments_that_differ(kind):
    a, b = matrix(1), matrix(2)
    f = known(product, a, b)
    for _ in range(6):
        x, y = arguments()[kind]
        same(f, product, f(a, b) if x is None else x, y)
        flush(local.trace)
        assert same(f, product, a, b)


def test_memory_that_numpy_sees_is_read_anew():
    a, b = matrix(1), matrix(2)
    f = known(product, a, b)
    seen = a.numpy()
    for k in range(5):
        seen[0, 0] = k
        np.testing.assert_allclose(f(a, b).numpy(), seen @ b.numpy(), rtol=1e-5)


def test_changed_in_place_between_calls():
    a, b = matrix(1), matrix(2)
    f = known(product, a, b)
    for k in range(6):
        a += 1
        same(f, product, a, b)
        b[k] = 0.0
        same(f, product, a, b)
        b.data = matrix(20 + k)
        same(f, product, a, b)
        b.data = matrix(40 + k, 32)[::2, ::2]
        same(f, product, a, b)


def test_what_the_function_reaches():
    w, special = matrix(1), matrix(2)

    def affine(x):
        if x is special:
            return x * 2
        return x @ w + 1

    f = known(affine, matrix(3))
    taken = 0
    for k in range(8):
        taken += same(f, affine, matrix(k))
        assert not same(f, affine, special) and not same(f, affine, w)
        w.add_(1)
    assert taken
    for k in range(6):
        w.data = matrix(30 + k)
        same(f, affine, matrix(k))
    w = matrix(50)  # another tensor under the name
    for k in range(6):
        same(f, affine, matrix(k))


def test_options_of_the_engine():
    w = matrix(1).requires_grad_()

    def through(x):
        return x @ w

    x = matrix(2)
    with torch.no_grad():
        f = known(through, x)
        assert same(f, through, x) and not f(x).requires_grad
    for _ in range(4):
        assert f(x).requires_grad
        flush(local.trace)
        with torch.no_grad():
            assert same(f, through, x)
    for _ in range(4):
        f(x).sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), 4 * np.outer(x.numpy().sum(0), np.ones(16)), rtol=1e-5)
    with torch.no_grad():
        for _ in range(4):
            same(f, through, x)
            w.grad = None if w.grad is not None else torch.ones(16, 16)


def test_code_that_changes():
    scale = {"by": 2.0}
    members = {1, 2}

    def scaled(x):
        return x * scale["by"] * len(members)

    f = known(scaled, matrix(1))
    for k in range(5):
        scale["by"] = float(k)
        same(f, scaled, matrix(2))
        members.add(10 + k)
        same(f, scaled, matrix(2))


def test_a_trace_that_has_begun():
    a, b = matrix(1), matrix(2)
    f = known(product, a, b)
    for _ in range(5):
        pending = a * 3
        got = f(a, b)
        np.testing.assert_array_equal((got + pending).numpy(), (product(a, b) + a * 3).numpy())


def test_names_and_wrong_calls():
    a, b = matrix(1), matrix(2)
    f = known(product, a, b)
    for _ in range(4):
        np.testing.assert_array_equal(f(a, b=b).numpy(), product(a, b).numpy())
        np.testing.assert_array_equal(f(b=b, a=a).numpy(), product(a, b).numpy())
        with pytest.raises(TypeError):
            f(a)
        with pytest.raises(TypeError):
            f(a, b, b)
        with pytest.raises(TypeError):
            f(a, c=b)
        with pytest.raises(RuntimeError):
            f(a, matrix(1, 15))
        flush(local.trace)
        assert same(f, product, a, b)


def test_methods_and_modules():
    class Thing:
        @torch.compile
        def twice(self, x):
            return x * 2

    thing, x = Thing(), matrix(1)
    for _ in range(10):
        np.testing.assert_array_equal(thing.twice(x).numpy(), 2 * x.numpy())
    layer = torch.nn.Linear(16, 16)
    compiled = torch.compile(layer)
    with torch.no_grad():
        for k in range(10):
            np.testing.assert_array_equal(compiled(matrix(k)).numpy(), layer(matrix(k)).numpy())
            layer.weight.mul_(0.5)


def test_an_index_out_of_range_is_raised_where_it_is_read():
    x = torch.arange(5.0)

    def take(i):
        return x[i]

    good, bad = torch.tensor([1, 2]), torch.tensor([1, 7])
    f = known(take, good)
    for _ in range(3):
        value = f(bad)
        with pytest.raises(IndexError):
            value.tolist()
        assert f(good).tolist() == [1.0, 2.0]


def test_threads():
    """Threads that keep their results and so need ever more memory for them, all at the same function."""
    a, b = matrix(1), matrix(2)
    f = known(product, a, b)
    expected = product(a, b).numpy().copy()
    wrong = []

    def work(seed):
        x = matrix(seed)
        want = product(a, x).numpy().copy()
        for n in range(40):
            kept = [(f(a, x), f(a, b)) for _ in range(n)]
            if not all(np.array_equal(p.numpy(), want) and np.array_equal(q.numpy(), expected) for p, q in kept):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong
    for size, ring in memory._rings.items():  # no piece of memory is in two places
        assert all(buffer.nbytes == size for buffer in ring)
        assert len({int(buffer) for buffer in ring}) == len(ring)


def test_records_die_with_what_they_stand_for():
    def living():
        gc.collect()
        return sum(isinstance(o, Record) for o in gc.get_objects())

    a, b = matrix(1), matrix(2)
    before = living()
    f = known(product, a, b)
    for n in range(3, 40):
        x = matrix(n, n)
        for _ in range(5):
            f(x, x.clone()).tolist()
        if n % 7 == 0:
            torch.compiler.reset()
    assert living() <= before + 39 - 35  # of the sizes since the last time that everything was forgotten
    same(f, product, a, b)


def test_a_profile_sees_them():
    from adjoint import profiler

    a, b = matrix(1), matrix(2)
    f = known(product, a, b)
    with profiler.profile() as seen:
        for _ in range(5):
            f(a, b)
    assert tally.words[tally.PAUSED] == 0
    assert [e.count for e in seen.key_averages() if e.key == "program of 1 kernel"] == [5]
    assert same(f, product, a, b)


def test_many_kinds_of_arguments():
    f = torch.compile(lambda x: (x * 2).sum(0))
    xs = [torch.ones(k + 1, 3) for k in range(40)]
    for _ in range(6):
        for k, x in enumerate(xs):
            assert f(x).tolist() == [2.0 * (k + 1)] * 3
    before = natively(f)
    for x in xs:
        f(x)
    assert natively(f) - before >= quick.MOST_LINKED


def test_forgotten_and_learnt_again():
    a, b = matrix(1), matrix(2)
    f = known(product, a, b)
    calls = f.replays
    torch.compiler.reset()
    assert f.replays == calls and f._record is None
    for _ in range(8):
        f(a, b).tolist()
    assert same(f, product, a, b)


def test_unread_results_do_not_keep_a_call_from_being_known():
    a, b = matrix(1), matrix(2)
    f = torch.compile(product)
    for _ in range(400):
        last = f(a, b)
    assert f.replays > 200, f
    np.testing.assert_array_equal(last.numpy(), product(a, b).numpy())
