"""ADJOINT_VERIFY: wrong code is caught, with a script that shows it; rounding, NaN and infinities are not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import adjoint as torch
from adjoint import dtypes as dt
from adjoint import rewrite
from adjoint.codegen import scalars
from adjoint.ir import noise
from adjoint.ir.graph import Graph, GraphBuilder
from adjoint.ir.reference import run_graph
from adjoint.runtime import verify
from adjoint.runtime.memory import Buffer
from adjoint.runtime.program import Program, compile_graph

pytestmark = pytest.mark.skipif(torch.is_eager(), reason="compiles nothing")


@pytest.fixture(autouse=True)
def verifying(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("ADJOINT_VERIFY", "1")
    monkeypatch.setattr(verify.tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    yield


def numbers(*shape: int) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(0).normal(size=shape).astype("f"))


def plant(monkeypatch: pytest.MonkeyPatch, name: str, instead: str) -> None:
    """Machine code for one pointwise primitive that computes another one."""
    monkeypatch.setitem(scalars.POINTWISE, name, scalars.POINTWISE[instead])


def test_a_wrong_kernel_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "tanh", "sin")
    x = numbers(3, 41)
    y = x.tanh() * 2.5
    with pytest.raises(torch.VerificationError) as caught:
        y.tolist()
    message, here = str(caught.value), Path(__file__).name
    assert "float32[3, 41], is wrong in" in message and "largest error" in message
    assert f"{here}:" in message.split("recorded at")[1]
    assert f"{here}:" in message.split("the value was asked for at")[1]
    # what was computed wrongly is not kept
    np.testing.assert_allclose(y.numpy(), np.tanh(x.numpy()) * 2.5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(7,), (9, 31)])
def test_the_script_shows_it(monkeypatch: pytest.MonkeyPatch, capsys, shape: tuple) -> None:
    """Small inputs are written into it, larger ones lie beside it."""
    plant(monkeypatch, "tanh", "sin")
    with pytest.raises(torch.VerificationError) as caught:
        (numbers(*shape).tanh() + 1.375).sum(0).tolist()
    path = Path(caught.value.script)
    assert (path.parent / "inputs.npz").exists() == (len(shape) == 2)
    code = compile(path.read_text(), str(path), "exec")
    with pytest.raises(torch.VerificationError, match="is wrong"):
        exec(code, {"__file__": str(path)})
    monkeypatch.undo()
    exec(code, {"__file__": str(path)})
    assert "agree" in capsys.readouterr().out


def test_a_wrong_simplification_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference evaluates what was recorded."""
    plain = rewrite.simplify

    def wrong(graph: Graph) -> Graph:
        b, made = GraphBuilder(), {}
        for n in graph.nodes:
            name = "sub" if n.prim.name == "add" else n.prim.name
            made[n] = b.node(name, *[made[a] for a in n.args], attrs=n.attrs)
        return plain(b.finish([made[o] for o in graph.outputs]))

    monkeypatch.setattr(rewrite, "simplify", wrong)
    with pytest.raises(torch.VerificationError):
        (numbers(4, 13) + numbers(4, 1)).tolist()


def test_wrong_integers_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "sub", "add")
    x = torch.arange(5003) * 3
    with pytest.raises(torch.VerificationError, match=r"int64\[5003\], is wrong in 5002 of 5003"):
        (x - torch.arange(5003)).tolist()


def test_a_gradient_names_the_line_of_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "cos", "exp")
    x = numbers(6, 11).requires_grad_()
    x.sin().sum().backward()
    with pytest.raises(torch.VerificationError, match="is wrong"):
        x.grad.tolist()
    np.testing.assert_allclose(x.grad.tolist(), np.cos(x.detach().numpy()), rtol=1e-5)


def test_an_input_written_to_is_caught() -> None:
    b = GraphBuilder()
    graph = b.finish([b.node("neg", b.node("input", attrs=(0, (9,), dt.float32)))])
    program = compile_graph(graph)
    buffer = Buffer.from_array(np.arange(9, dtype="f"))
    program.run([buffer], [])

    class Careless(Program):
        def run(self, buffers: list, numbers: list) -> list:
            out = super().run(buffers, numbers)
            buffers[0].array("f", (9,))[4] = 0
            return out

    class Checked(verify.VerifiedProgram, Careless):
        pass

    with pytest.raises(torch.VerificationError, match="input 0 was overwritten"):
        Checked(graph, graph, None, 1).run([buffer], [])


def test_every_nth_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADJOINT_VERIFY", "3")
    monkeypatch.setattr(verify, "_runs", itertools.count(1))
    checked = []
    plain = verify.compare
    monkeypatch.setattr(verify, "compare", lambda *args: checked.append(1) or plain(*args))
    x = numbers(5, 19)
    for _ in range(7):
        (x.exp() * 1.625).tolist()
    assert len(checked) == 2


def test_nothing_without_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    b = GraphBuilder()
    graph = b.finish([b.node("exp", b.node("input", attrs=(0, (3,), dt.float32)))])
    assert type(compile_graph(graph)) is verify.VerifiedProgram
    monkeypatch.setenv("ADJOINT_VERIFY", "0")
    assert type(compile_graph(graph)) is Program


def test_errors_of_data_stay_errors() -> None:
    with pytest.raises(IndexError, match="out of"):
        (numbers(4, 3)[torch.tensor([1, 9])] * 3.5).tolist()


ROUNDED: dict[str, Callable] = {
    "NaN and infinities": lambda x: (x / 0.0).exp() + (x * 0.0 / 0.0) + x.log(),
    "a sum that cancels": lambda x: x.exp().sum() - x.exp().flip(0).cumsum(0)[-1].sum(),
    "a jump after rounding": lambda x: ((x.exp() / x.exp().sum()).sum() * 1000).floor(),
    "a winner among almost equals": lambda x: (x.sin() ** 2 + x.cos() ** 2).argmax(1),
    "a comparison": lambda x: x.sin() ** 2 + x.cos() ** 2 > 1,
    "division by almost nothing": lambda x: 1 / ((x.sin() ** 2 + x.cos() ** 2) - 1 + 1e-6),
    "a product and its derivative": lambda x: torch.func.grad(lambda u: (u @ u.T).tanh().sum())(x),
    "powers": lambda x: x.abs() ** 17.3 % 0.75,
    "a long sum": lambda x: (x.repeat(40, 70) * 1e-3 + 5).sum() - 5 * 40 * 70 * x.numel(),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_rounding_is_no_difference(name: str) -> None:
    x = numbers(23, 37)
    for _ in range(2):
        got = ROUNDED[name](x)
        got.tolist()


def test_noise_explains_no_more_than_rounding() -> None:
    """A difference of a hundred units in the last place is found where the sum does not cancel, and a thousandth of
    the terms where it does."""
    b = GraphBuilder()
    x = b.node("input", attrs=(0, (500,), dt.float32))
    graph = b.finish([b.node("sum", b.node("exp", x), attrs=(0,)), b.node("sum", x, attrs=(0,))])
    values = np.random.default_rng(1).normal(size=500).astype("f")
    values -= values.mean()
    expected = run_graph(graph, [values], [])
    right = [e.copy() for e in expected]
    right[1] += np.float32(1e-6)
    assert not any(w.any() for w in noise.unexplained(graph, [values], [], expected, right))
    wrong = [expected[0] * (1 + 400 * np.finfo("f").eps), expected[1] + np.float32(1e-1)]
    wrong = [np.asarray(w, "f") for w in wrong]
    assert all(w.all() for w in noise.unexplained(graph, [values], [], expected, wrong))


def test_exact_primitives_are_held_to_the_bit() -> None:
    b = GraphBuilder()
    x = b.node("input", attrs=(0, (5,), dt.float32))
    graph = b.finish([b.node("mul", b.node("add", x, x), x)])
    values = np.linspace(-1, 2, 5, dtype="f")
    (expected,) = run_graph(graph, [values], [])
    near = np.nextafter(expected, np.float32(9))
    assert noise.unexplained(graph, [values], [], [expected], [near])[0].all()
    assert not noise.unexplained(graph, [values], [], [expected], [expected.copy()])[0].any()
