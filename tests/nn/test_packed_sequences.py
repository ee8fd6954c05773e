"""Packed sequences: packing and unpacking, recurrent layers over them as over each sequence alone."""

from __future__ import annotations

from typing import Any

import pytest

import adjoint as torch
from adjoint import nn
from adjoint.nn.utils import rnn

pytestmark = pytest.mark.usefixtures("little_effort")
LENGTHS = [3, 1, 4, 3]


def padded(kind: Any = torch.float64) -> Any:
    torch.manual_seed(0)
    return torch.randn(4, 5, 2, dtype=torch.float64).to(kind)


def test_pack_and_pad() -> None:
    x = padded()
    packed = rnn.pack_padded_sequence(x, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False)
    assert packed.batch_sizes.tolist() == [4, 3, 3, 1] and packed.batch_sizes.dtype is torch.int64
    assert packed.sorted_indices.tolist() == [2, 0, 3, 1] and packed.unsorted_indices.tolist() == [1, 3, 0, 2]
    wanted = torch.stack([x[n, t] for t in range(4) for n in (2, 0, 3, 1) if t < LENGTHS[n]])
    assert torch.equal(packed.data, wanted)
    back, lengths = rnn.pad_packed_sequence(packed, batch_first=True, padding_value=7, total_length=6)
    assert lengths.tolist() == LENGTHS and back.shape == (4, 6, 2)
    for n, length in enumerate(LENGTHS):
        assert torch.equal(back[n, :length], x[n, :length]) and bool((back[n, length:] == 7).all())
    assert rnn.pad_packed_sequence(packed)[0].shape == (4, 4, 2)
    for a, b, length in zip(rnn.unpack_sequence(packed), x, LENGTHS, strict=True):
        assert torch.equal(a, b[:length])
    parts = [torch.tensor([1, 2, 3]), torch.tensor([4, 5])]
    ready = rnn.pack_sequence(parts)
    assert ready.sorted_indices is None and ready.unsorted_indices is None and ready.data.dtype is torch.int64
    assert torch.equal(ready.data, rnn.pack_sequence(parts[::-1], enforce_sorted=False).data)
    assert ready.double().data.dtype is torch.float64 and ready.to(torch.int32).int().data.dtype is torch.int32
    assert isinstance(ready.to(torch.float32), rnn.PackedSequence) and not ready.is_cuda
    assert rnn.invert_permutation(None) is None


def test_derivatives_of_packing() -> None:
    x = padded().requires_grad_()

    def there_and_back(t: Any) -> Any:
        packed = rnn.pack_padded_sequence(t, LENGTHS, batch_first=True, enforce_sorted=False)
        return rnn.pad_packed_sequence(packed._replace(data=packed.data**3))[0]

    assert torch.autograd.gradcheck(there_and_back, (x,)) and torch.autograd.gradgradcheck(there_and_back, (x,))


def test_errors() -> None:
    x = padded()
    for lengths, options, message in (
        ([1, 2], {}, r"Expected `len\(lengths\)` to be equal to batch_size, but got 2 \(batch_size=4\)"),
        ([2, 2, 0, 2], {"enforce_sorted": False}, "greater than 0"),
        ([1, 2, 1, 1], {}, "sorted in decreasing order"),
        ([9, 1, 1, 1], {}, "a length of 9 is more than the 5 steps"),
    ):
        with pytest.raises(RuntimeError, match=message):
            rnn.pack_padded_sequence(x, lengths, batch_first=True, **options)
    with pytest.raises(RuntimeError, match="sorted in decreasing order"):
        rnn.pack_sequence([torch.ones(1), torch.ones(2)])
    with pytest.raises(RuntimeError, match="empty list"):
        rnn.pack_sequence([])
    packed = rnn.pack_padded_sequence(x, [4, 3, 3, 1], batch_first=True)
    with pytest.raises(ValueError, match="total_length=3 and max sequence length being 4"):
        rnn.pad_packed_sequence(packed, total_length=3)
    with pytest.raises(ValueError, match="batch_sizes should not be None"):
        rnn.PackedSequence(x)
    with pytest.raises(RuntimeError, match="must be equal to input_size. Expected 3"):
        nn.GRU(3, 2).double()(packed)
    with pytest.raises(RuntimeError, match="Expected hidden size"):
        nn.GRU(2, 3).double()(packed, torch.zeros(1, 3, 3, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
def test_layers_do_what_they_do_for_each_sequence(kind: str, options: dict[str, Any]) -> None:
    torch.manual_seed(1)
    layer = getattr(nn, kind)(2, 3, **options).double()
    x = padded().requires_grad_()
    pairs = kind == "LSTM"
    count = len(layer.all_weights)
    start = [torch.randn(count, 4, 3, dtype=torch.float64) for _ in range(1 + pairs)]

    def outcome(outputs: list[Any], states: list[Any]) -> list[Any]:
        loss = sum((o * o).sum() for o in outputs) + sum((s**3).sum() for s in states)
        return [*outputs, *states, *torch.autograd.grad(loss, [x, *layer.parameters()])]

    packed = rnn.pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    out, state = layer(packed, tuple(start) if pairs else start[0])
    assert isinstance(out, rnn.PackedSequence)
    together = outcome(rnn.unpack_sequence(out), list(state) if pairs else [state])
    outs, states = [], []
    for n, length in enumerate(LENGTHS):
        first = [s[:, n] for s in start]
        out, state = layer(x[n, :length], tuple(first) if pairs else first[0])
        outs.append(out)
        states.append(state if pairs else (state,))
    alone = outcome(outs, [torch.stack(column, 1) for column in zip(*states, strict=True)])
    for a, b in zip(together, alone, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


def test_a_layer_without_initial_state_and_with_projection() -> None:
    layer = nn.LSTM(2, 3, proj_size=2).double()
    x = padded()
    out, (h, c) = layer(rnn.pack_padded_sequence(x, [4, 3, 3, 1], batch_first=True))
    assert out.data.shape == (11, 2) and h.shape == (1, 4, 2) and c.shape == (1, 4, 3)
    alone, (last, _) = layer(x[1, :3])
    assert torch.allclose(h[:, 1], last) and torch.allclose(rnn.unpack_sequence(out)[1], alone)


@pytest.mark.skipif(torch.is_eager(), reason="nothing is put off")
def test_steps_have_a_trace_of_their_own() -> None:
    """Packed data are of another size every time, the padded steps are not: recorded behind each other, all would be new every time."""
    torch.manual_seed(0)
    layer, x = nn.GRU(3, 4, batch_first=True), torch.randn(3, 24, 3)
    packed = rnn.pack_padded_sequence(x, torch.tensor([24, 7, 2]), batch_first=True)
    torch.ones(1).item()  # ends what others have begun
    before = torch.stats()["flushes"]
    out, _ = layer(packed)
    assert torch.stats()["flushes"] == before + 2
    out.data.sum().backward()
    assert layer.weight_hh_l0.grad.isfinite().all().item()
