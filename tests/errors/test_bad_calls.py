"""Every bad call of the table ends as in PyTorch, says what was given, and leaves everything usable."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import Any

import calls
import outcomes
import pytest

import adjoint as torch

pytestmark = pytest.mark.usefixtures("little_effort")

outcomes.load(torch)
STORED = outcomes.read()
GOODS = outcomes.goods()
# How an outcome may differ from PyTorch's (first letter PyTorch, second here), and why.
ALLOWED = {
    "R.": "computes what PyTorch refuses, mostly mixed dtypes",
    "N.": "computes for a dtype that PyTorch's kernel lacks",
    "T.": "takes a number or a default where PyTorch wants a tensor or an explicit argument",
    "V.": "computes what PyTorch refuses", "I.": "computes what PyTorch refuses", "A.": "converts lists and arrays",
    "AT": "names the argument where PyTorch falls over its type",
    "RT": "names the argument of the wrong type", "VT": "names the argument of the wrong type",
    "NT": "names the argument of the wrong type", "IT": "names the argument of the wrong type",
    "TN": "one exception for a dtype that an operation does not know",
    "VN": "one exception for shapes that interpolate does not know",
    "RI": "an index out of range is an IndexError everywhere",
}  # fmt: skip


def small_program() -> None:
    """A gradient and a value, recorded after the bad call."""
    w = torch.ones(3, requires_grad=True)
    loss = (w * w * 2).sum()
    loss.backward()
    assert loss.item() == 6 and w.grad.tolist() == [4, 4, 4]
    assert torch.is_grad_enabled() and torch.get_default_dtype() is torch.float32


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """`set_num_threads` is among the calls."""
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@pytest.mark.parametrize("family, good", GOODS, ids=[good for _, good in GOODS])
def test_outcome(family: str, good: str) -> None:
    theirs, here = STORED[good]
    names = calls.namespace(torch)
    pending = torch.ones(3) * 2
    accepted: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k, (text, letter, outcome) in enumerate(outcomes.attempts(torch, family, good, theirs, names)):
            assert letter == here[k], f"{text}: {letter} instead of {here[k]} ({outcome!r})"
            if torch.is_eager():  # where nothing is pending that a bad call could damage
                continue
            if letter == ".":
                accepted.append(outcome)  # all of them are computed with the next small program
            else:
                small_program()
                accepted.clear()
    small_program()
    assert k + 1 == len(here)
    assert pending.tolist() == [2, 2, 2]


def test_differences_are_of_known_kinds() -> None:
    strange: dict[str, int] = {}
    for theirs, here in STORED.values():
        for a, b in zip(theirs, here, strict=True):
            if a != b and a + b not in ALLOWED:
                strange[a + b] = strange.get(a + b, 0) + 1
            assert a == b or b not in "AKZOS?", "an exception nobody wrote on purpose came out"
    assert sum(strange.values()) < 0.03 * sum(len(t) for t, _ in STORED.values()), strange


def test_table_is_complete() -> None:
    assert list(STORED) == [good for _, good in GOODS]


@pytest.mark.skipif(not os.environ.get("ADJOINT_SLOW"), reason="set ADJOINT_SLOW=1 to ask PyTorch about every bad call again")
def test_stored_outcomes_are_those_of_pytorch() -> None:
    theirs = pytest.importorskip("torch")
    outcomes.load(theirs)
    try:
        for family, good in GOODS:
            letters = "".join(letter for _, letter, _ in outcomes.attempts(theirs, family, good, "." * 999))
            assert letters == STORED[good][0], good
    finally:
        theirs.set_default_dtype(theirs.float32)
        theirs.set_grad_enabled(True)


MESSAGES = [
    ("torch.ones(2, 3) + torch.ones(4)", ["[2, 3]", "[4]", "reshape"]),
    ("torch.ones(2, 3) @ torch.ones(2, 3)", ["2x3"]),
    ("x.reshape(4, 2)", ["[4, 2]", "6"]),
    ("x.sum(5)", ["[-2, 1]", "5"]),
    ("torch.sum(x, 'a')", ["'dim'", "str"]),
    ("torch.exp('a')", ["exp()", "str"]),
    ("torch.exp(np.ones(2))", ["ndarray"]),
    ("torch.matmul(x, np.ones(2))", ["ndarray"]),
    ("torch.cumsum(x, 1, nonsense=1)", ["nonsense", "cumsum(input, dim"]),
    ("torch.topk(x, 9, 1)", ["9"]),
    ("F.relu([1.0])", ["relu()", "'input'", "list", "torch.tensor()"]),
    ("F.gelu(x, 5)", ["gelu()", "5"]),
    ("F.softmax(x, 'a')", ["softmax()", "'dim'", "'a'"]),
    ("F.conv2d(image, torch.ones(4, 3, 3, 3))", ["3"]),
    ("F.cross_entropy(torch.ones(2, 3), torch.tensor([0, 1, 2]))", ["(2)", "(3)"]),
    ("F.mse_loss(x, y, reduction='nonsense')", ["nonsense"]),
    ("torch.zeros(2, -3)", ["-3", "[2, -3]"]),
    ("torch.zeros(2**40, 2**40)", ["1099511627776"]),
    ("torch.ones(2).to('cuda')", ["cuda", "cpu"]),
    ("nn.Linear(3, 4).load_state_dict({'wieght': torch.ones(4, 3)})", ["weight", "bias", "wieght"]),
    ("nn.Linear(3, 4).load_state_dict({'weight': torch.ones(2, 3), 'bias': torch.ones(4)})", ["weight", "[2, 3]", "[4, 3]"]),
    ("torch.ones(3).add_(torch.ones(2, 3))", ["[3]", "[2, 3]"]),
    ("torch.scatter(torch.ones(2, 2, 2), 1, k, y)", ["scatter", "ranks 3 (self)", "2 (index)"]),
    ("torch.tensor([[1, 2], [3]])", ["ragged"]),
    ("optim.SGD([nn.Parameter(x)], lr=-1.0)", ["-1.0"]),
    ("optim.Adam([nn.Parameter(x)], betas=(1.5, 0.9))", ["1.5", "0"]),
    ("torch.arange(5, 0)", ["5", "0"]),
    ("torch.mattmul", ["matmul"]),
    ("nn.Lineer", ["Linear"]),
    ("torch.jit.trace", ["no TorchScript", "compiled already"]),
    ("torch.jit.script(3)", ["int"]),
    ("torch.onnx", ["PyTorch has it", "safetensors"]),
    ("x.to_sparse()", ["PyTorch has it"]),
    ("torch.cuda.current_device()", ["is_available"]),
    ("torch.device('nonsense')", ["nonsense", "cpu"]),
]  # fmt: skip


def test_absent_attributes_are_not_there() -> None:
    x = torch.ones(2)
    assert not hasattr(x, "to_sparse") and "to_sparse" not in dir(x) and "sum" in dir(x)
    with pytest.raises(AttributeError) as caught:
        x.sumn()  # noqa: B018
    assert caught.value.name == "sumn" and caught.value.obj is x  # from which Python suggests names that are close


@pytest.mark.parametrize("text, parts", MESSAGES, ids=[m[0] for m in MESSAGES])
def test_message_restates_the_call(text: str, parts: list[str]) -> None:
    with pytest.raises(Exception) as caught:
        outcomes.force(eval(text, calls.namespace(torch)), torch)
    for part in parts:
        assert part in str(caught.value)


LATE = [
    ("torch.linalg.inv(torch.zeros(2, 2))", RuntimeError),
    ("torch.linalg.solve(torch.zeros(2, 2), torch.ones(2, 1))", RuntimeError),
    ("torch.linalg.cholesky(-torch.eye(2))", RuntimeError),
    ("torch.ones(3)[torch.tensor([5])]", IndexError),
    ("torch.gather(torch.ones(3), 0, torch.tensor([5]))", IndexError),
    ("torch.nn.functional.embedding(torch.tensor([9]), torch.ones(3, 2))", IndexError),
]


@pytest.mark.parametrize("text, kind", LATE, ids=[row[0] for row in LATE])
def test_error_in_the_data_names_the_line_and_spares_the_others(text: str, kind: type) -> None:
    before = torch.ones(3) * 3
    try:
        line = test_error_in_the_data_names_the_line_and_spares_the_others.__code__.co_firstlineno + 5
        bad = eval(text)
    except kind:
        assert torch.is_eager()
        return
    assert before.tolist() == [3, 3, 3]  # reading this runs the trace, and does not raise for the other
    for _ in range(2):
        with pytest.raises(kind) as caught:
            bad.tolist()
        assert "recorded at" in str(caught.value) and f":{line} in" in str(caught.value) or "<string>" in str(caught.value)
    with pytest.raises(kind):
        (bad + 1).sum().item()
    small_program()


def test_float_sizes_never_stand_for_ints() -> None:
    """9.0 equals 9 as a key: a call with the one must not leave a place in the trie that serves the other."""
    for call in (lambda n: torch.zeros(n), lambda n: torch.ones(7).unfold(0, 2, n), lambda n: torch.linspace(0, 1, n)):
        with pytest.raises(TypeError):
            call(4.0)
        assert all(type(n) is int for n in call(4).shape)
