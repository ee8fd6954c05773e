"""Recurrent layers: RNN, LSTM and GRU, over sequences or one step at a time.

One step of each kind is a composite (`_rnn_step`, `_lstm_step`, `_gru_step`); a layer multiplies
the whole sequence by the input weights at once and then walks it step by step. Read
`RNNBase.forward` first; cells and layers share the step functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import adjoint as torch
from adjoint.methods import Parameter, Tensor
from adjoint.nn import functional as F
from adjoint.nn import init
from adjoint.nn.module import Module
from adjoint.nn.utils.rnn import PackedSequence, places
from adjoint.ops.composite import composite
from adjoint.trace import pieces
from adjoint.trace.arguments import checked

__all__ = ["GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNBase", "RNNCell", "RNNCellBase"]

State = tuple[Tensor, ...]


# ---- one step: gates from the input (already multiplied), the state, the recurrent weights -------


@composite("TanhBackward0")
def _rnn_step(
    gates: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor | None, activation: str
) -> Tensor:
    """h' = act(W_ih x + b_ih + W_hh h + b_hh)."""
    total = gates + F.linear(h, w_hh, b_hh)
    return torch.tanh(total) if activation == "tanh" else F.relu(total)


@composite("MulBackward0")
def _lstm_step(
    gates: Tensor, h: Tensor, c: Tensor, w_hh: Tensor, b_hh: Tensor | None, w_hr: Tensor | None
) -> tuple[Tensor, Tensor]:
    """c' = f c + i g, h' = o tanh(c'), times W_hr if there is a projection (Sak et al., 2014)."""
    i, f, g, o = (gates + F.linear(h, w_hh, b_hh)).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    return (h if w_hr is None else F.linear(h, w_hr)), c


@composite("AddBackward0")
def _gru_step(gates: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor | None) -> Tensor:
    """n = tanh(W_in x + b_in + r (W_hn h + b_hn)), h' = (1 - z) n + z h."""
    r_x, z_x, n_x = gates.chunk(3, -1)
    r_h, z_h, n_h = F.linear(h, w_hh, b_hh).chunk(3, -1)
    z = torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
    return n + z * (h - n)


# ---- one step, as functions of torch --------------------------------------------------------------


def _gates(name: str, count: int, input: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None) -> Tensor:
    """The input's part of the gates. RuntimeError for shapes that do not fit."""
    hidden = h.shape[-1] if h.dim() else -1
    if input.dim() != 2 or h.dim() != 2 or input.shape[0] != h.shape[0]:
        raise RuntimeError(f"{name}(): input (N, in) and hx (N, hidden) are needed, but got {list(input.shape)} and {list(h.shape)}")
    for label, weight, columns in (("w_ih", w_ih, input.shape[1]), ("w_hh", w_hh, hidden)):
        if tuple(weight.shape) != (count * hidden, columns):
            raise RuntimeError(
                f"{name}(): {label} must have shape {[count * hidden, columns]} for input {list(input.shape)} and hx {list(h.shape)}, "
                f"but has {list(weight.shape)}"
            )
    return F.linear(input, w_ih, b_ih)


@checked
def rnn_tanh_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Tensor:
    """One step of `nn.RNNCell`: input (N, in), hx (N, hidden), w_ih (hidden, in), w_hh (hidden, hidden), both b (hidden,).

    >>> import adjoint as torch
    >>> torch.rnn_tanh_cell(torch.ones(1, 2), torch.zeros(1, 1), torch.ones(1, 2), torch.ones(1, 1))
    tensor([[0.9640]])
    """
    return _rnn_step(_gates("rnn_tanh_cell", 1, input, hx, w_ih, w_hh, b_ih), hx, w_hh, b_hh, "tanh")


@checked
def rnn_relu_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Tensor:
    """`rnn_tanh_cell` with relu.

    >>> import adjoint as torch
    >>> torch.rnn_relu_cell(torch.ones(1, 2), torch.zeros(1, 1), torch.ones(1, 2), torch.ones(1, 1))
    tensor([[2.]])
    """
    return _rnn_step(_gates("rnn_relu_cell", 1, input, hx, w_ih, w_hh, b_ih), hx, w_hh, b_hh, "relu")


@checked
def lstm_cell(
    input: Tensor, hx: Sequence[Tensor], w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One step of `nn.LSTMCell`: input (N, in), hx two of (N, hidden), w_ih (4 hidden, in), w_hh (4 hidden, hidden); (h, c).

    >>> import adjoint as torch
    >>> h, c = torch.lstm_cell(torch.ones(1, 2), (torch.zeros(1, 1), torch.zeros(1, 1)), torch.ones(4, 2), torch.ones(4, 1))
    >>> c
    tensor([[0.8491]])
    """
    if len(hx) != 2:
        raise RuntimeError(f"lstm_cell expects two hidden states, but got {len(hx)}: give (h, c)")
    h, c = hx
    if c.shape != h.shape:
        raise RuntimeError(f"lstm_cell(): h and c must have the same shape, but got {list(h.shape)} and {list(c.shape)}")
    return _lstm_step(_gates("lstm_cell", 4, input, h, w_ih, w_hh, b_ih), h, c, w_hh, b_hh, None)


@checked
def gru_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Tensor:
    """One step of `nn.GRUCell`: input (N, in), hx (N, hidden), w_ih (3 hidden, in), w_hh (3 hidden, hidden).

    >>> import adjoint as torch
    >>> torch.gru_cell(torch.ones(1, 2), torch.zeros(1, 1), torch.ones(3, 2), torch.ones(3, 1))
    tensor([[0.1149]])
    """
    return _gru_step(_gates("gru_cell", 3, input, hx, w_ih, w_hh, b_ih), hx, w_hh, b_hh)


# ---- layers --------------------------------------------------------------------------------------


# Rows of a weight matrix, in hidden sizes, for each mode.
GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "LSTM": 4, "GRU": 3}


class RNNBase(Module):
    """Base class of RNN, LSTM and GRU: their weights, weight_ih_l0, weight_hh_l0, bias_ih_l0, ..., with _reverse, and the walk.

    mode: "RNN_TANH", "RNN_RELU", "LSTM" or "GRU" says how many rows the weights have. What a step computes is the subclass's.
    Raises ValueError for another mode, for sizes below 1, and for a `proj_size` without LSTM.

    >>> import adjoint as torch
    >>> isinstance(torch.nn.LSTM(3, 4), torch.nn.RNNBase), torch.nn.RNNBase("GRU", 3, 4).weight_ih_l0.shape
    (True, torch.Size([12, 3]))
    """

    states: ClassVar[int] = 1

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if mode not in GATES:
            raise ValueError(f"Unrecognized RNN mode: {mode}; the modes are {', '.join(GATES)}")
        if hidden_size <= 0:
            raise ValueError("hidden_size must be greater than zero")
        if num_layers <= 0:
            raise ValueError("num_layers must be greater than zero")
        if not 0 <= dropout <= 1:
            raise ValueError(
                "dropout should be a number in range [0, 1] representing the probability of an element being zeroed"
            )
        if proj_size < 0 or proj_size >= hidden_size:
            raise ValueError(
                "proj_size should be a positive integer smaller than hidden_size, or zero to disable projections"
            )
        if proj_size and mode != "LSTM":
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        made = {"device": device, "dtype": dtype}
        rows, out = GATES[mode] * hidden_size, proj_size or hidden_size
        self._suffixes: list[str] = []
        for layer in range(num_layers):
            width = input_size if layer == 0 else out * (2 if bidirectional else 1)
            for suffix in (
                (f"_l{layer}", f"_l{layer}_reverse") if bidirectional else (f"_l{layer}",)
            ):
                self._suffixes.append(suffix)
                setattr(self, f"weight_ih{suffix}", Parameter(torch.empty((rows, width), **made)))
                setattr(self, f"weight_hh{suffix}", Parameter(torch.empty((rows, out), **made)))
                if bias:
                    setattr(self, f"bias_ih{suffix}", Parameter(torch.empty((rows,), **made)))
                    setattr(self, f"bias_hh{suffix}", Parameter(torch.empty((rows,), **made)))
                if proj_size:
                    hr = Parameter(torch.empty((proj_size, hidden_size), **made))
                    setattr(self, f"weight_hr{suffix}", hr)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = 1.0 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing to do here: weights are used where they lie."""

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and direction."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        own = self._parameters
        return [[own[n + s] for n in names if n + s in own] for s in self._suffixes]

    def _own(self, name: str) -> Any:
        """A weight: a parameter, or what a program has put in its place, as in dropping connections; None without it."""
        return self._parameters[name] if name in self._parameters else getattr(self, name, None)

    def _step(self, gates: Tensor, state: State, suffix: str) -> State:
        raise NotImplementedError

    def _state_sizes(self) -> tuple[int, ...]:
        return (self.hidden_size,)

    def _initial(self, input: Tensor, batch: int, given: tuple[Tensor, ...] | None) -> State:
        """The state (layers * directions, N, size) of each kind: as given and checked, or zeros."""
        count = len(self._suffixes)
        if given is None:
            return tuple(
                torch.zeros((count, batch, n), dtype=input.dtype) for n in self._state_sizes()
            )
        for n, state in zip(self._state_sizes(), given, strict=True):
            if tuple(state.shape) != (count, batch, n):
                raise RuntimeError(
                    f"Expected hidden size {(count, batch, n)}, got {list(state.shape)}"
                )
        return given

    def _sweep(
        self, steps: Tensor, state: State, suffix: str, backwards: bool, within: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """One layer in one direction over (L, N, in): outputs (L, N, out) and the last state.

        within: (L, N, 1), whether a sequence has an element at a step; where it has none its state stays.
        """
        gates = F.linear(steps, self._own("weight_ih" + suffix), self._own("bias_ih" + suffix)).unbind(0)
        masks = None if within is None else within.unbind(0)
        outputs = []
        for t in range(len(gates) - 1, -1, -1) if backwards else range(len(gates)):
            new = self._step(gates[t], state, suffix)
            if masks is not None:
                new = tuple([torch.where(masks[t], after, before) for after, before in zip(new, state, strict=True)])
            state = new
            outputs.append(state[0])
        if backwards:
            outputs.reverse()
        return torch.stack(outputs), state

    def _forward_packed(self, packed: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        """Over the padded steps, longest sequence first, where states stay beyond the end of their sequence."""
        data = packed.data
        if data.dim() != 2 or data.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got data of shape {list(data.shape)}"
            )
        at, length, batch = places(packed.batch_sizes)
        steps = data.new_zeros((length * batch, self.input_size)).index_copy(0, at, data).reshape(length, batch, -1)
        within = torch.zeros((length * batch,), dtype=torch.bool).index_fill(0, at, True).reshape(length, batch, 1)
        # Packed data are of another length every time; the steps are of the same few shapes, and have a trace of their own.
        pieces.end_after(steps, within)
        given = None if hx is None else (hx if isinstance(hx, tuple) else (hx,))
        if given is not None and packed.sorted_indices is not None:
            given = tuple(state.index_select(1, packed.sorted_indices) for state in given)
        outputs, states = self._layers(steps, self._initial(data, batch, given), within)
        pieces.end_after(outputs, *states)
        outputs = outputs.reshape(length * batch, -1).index_select(0, at)
        if packed.unsorted_indices is not None:
            states = tuple(state.index_select(1, packed.unsorted_indices) for state in states)
        return packed._replace(data=outputs), states if self.states > 1 else states[0]

    def _layers(self, steps: Tensor, initial: State, within: Tensor | None = None) -> tuple[Tensor, State]:
        """All layers and directions over (L, N, in): outputs of the last layer, and states (layers * directions, N, size)."""
        final: list[State] = []
        directions = 2 if self.bidirectional else 1
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(directions):
                at = layer * directions + direction
                start = tuple(state[at] for state in initial)
                out, last = self._sweep(steps, start, self._suffixes[at], direction == 1, within)
                outputs.append(out)
                final.append(last)
            steps = outputs[0] if directions == 1 else torch.cat(outputs, -1)
            if self.dropout and layer < self.num_layers - 1:
                steps = F.dropout(steps, self.dropout, self.training)
        return steps, tuple(torch.stack([last[i] for last in final]) for i in range(self.states))

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        if input.dim() not in (2, 3):
            raise ValueError(
                f"{type(self).__name__}: Expected input to be 2D or 3D, got {input.dim()}D instead"
            )
        if input.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.shape[-1]}"
            )
        batched = input.dim() == 3
        steps = input if batched else input.unsqueeze(1)
        if batched and self.batch_first:
            steps = steps.transpose(0, 1)
        if steps.shape[0] == 0:
            raise RuntimeError(f"{type(self).__name__}: Expected sequence length to be larger than 0")
        given = None if hx is None else (hx if isinstance(hx, tuple) else (hx,))
        if given is not None and not batched:
            given = tuple(state.unsqueeze(1) for state in given)
        initial = self._initial(input, steps.shape[1], given)
        steps, states = self._layers(steps, initial)
        if not batched:
            steps, states = steps.squeeze(1), tuple(state.squeeze(1) for state in states)
        elif self.batch_first:
            steps = steps.transpose(0, 1)
        return steps, states if self.states > 1 else states[0]

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        shown = (
            ("proj_size", 0),
            ("num_layers", 1),
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0),
            ("bidirectional", False),
        )
        parts += [
            f"{name}={getattr(self, name)}" for name, usual in shown if getattr(self, name) != usual
        ]
        return ", ".join(parts)


class RNN(RNNBase):
    """Elman network: h' = tanh (or relu) of W_ih x + b_ih + W_hh h + b_hh (Elman, 1990).

    Input (L, N, in), or (N, L, in) with batch_first, or (L, in), or a `PackedSequence`; returns the outputs of the last
    layer (packed like the input) and the last state (layers * directions, N, hidden), each of its sequence's last step.

    >>> import adjoint as torch
    >>> output, last = torch.nn.RNN(3, 4)(torch.zeros(5, 2, 3))
    >>> output.shape, last.shape
    (torch.Size([5, 2, 4]), torch.Size([1, 2, 4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'."
            )
        super().__init__(
            f"RNN_{nonlinearity.upper()}",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            0,
            device,
            dtype,
        )
        self.nonlinearity = nonlinearity

    def _step(self, gates: Tensor, state: State, suffix: str) -> State:
        bias = self._own("bias_hh" + suffix)
        return (_rnn_step(gates, state[0], self._own("weight_hh" + suffix), bias, self.nonlinearity),)


class LSTM(RNNBase):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997; with forget gates, Gers et al., 2000).

    Input as for `RNN`; the state is a pair (h, c). Gates are ordered input, forget, cell, output.

    >>> import adjoint as torch
    >>> out, (h, c) = torch.nn.LSTM(3, 5, batch_first=True)(torch.randn(2, 7, 3))
    >>> out.shape, h.shape
    (torch.Size([2, 7, 5]), torch.Size([1, 2, 5]))
    """

    states = 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "LSTM",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )

    def _state_sizes(self) -> tuple[int, ...]:
        return (self.proj_size or self.hidden_size, self.hidden_size)

    def _step(self, gates: Tensor, state: State, suffix: str) -> State:
        bias, projection = self._own("bias_hh" + suffix), self._own("weight_hr" + suffix)
        return _lstm_step(gates, *state, self._own("weight_hh" + suffix), bias, projection)


class GRU(RNNBase):
    """Gated recurrent unit (Cho et al., 2014), with the reset gate applied after the product.

    Input and state as for `RNN`. Gates are ordered reset, update, new.

    >>> import adjoint as torch
    >>> output, last = torch.nn.GRU(3, 4)(torch.zeros(5, 2, 3))
    >>> output.shape, last.shape
    (torch.Size([5, 2, 4]), torch.Size([1, 2, 4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "GRU",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            0,
            device,
            dtype,
        )

    def _step(self, gates: Tensor, state: State, suffix: str) -> State:
        return (_gru_step(gates, state[0], self._own("weight_hh" + suffix), self._own("bias_hh" + suffix)),)


# ---- cells ---------------------------------------------------------------------------------------


class RNNCellBase(Module):
    """One step with its own weights: input (N, in) or (in,), state (N, hidden) or (hidden,); base class of the cells.

    num_chunks: rows of the weights, in hidden sizes.

    >>> import adjoint as torch
    >>> isinstance(torch.nn.GRUCell(3, 4), torch.nn.RNNCellBase)
    True
    """

    weight_ih: Parameter
    weight_hh: Parameter
    bias_ih: Parameter | None
    bias_hh: Parameter | None

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        rows, made = num_chunks * hidden_size, {"device": device, "dtype": dtype}
        self.weight_ih = Parameter(torch.empty((rows, input_size), **made))
        self.weight_hh = Parameter(torch.empty((rows, hidden_size), **made))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, Parameter(torch.empty((rows,), **made)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def _run(
        self, input: Tensor, states: tuple[Tensor | None, ...], step: Callable[..., Any]
    ) -> Any:
        if input.dim() not in (1, 2):
            raise ValueError(
                f"{type(self).__name__}: Expected input to be 1D or 2D, got {input.dim()}D instead"
            )
        if input.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input has inconsistent input_size: got {input.shape[-1]} expected {self.input_size}"
            )
        shape = (*input.shape[:-1], self.hidden_size)
        filled = []
        for state in states:
            if state is not None and tuple(state.shape) != shape:
                raise RuntimeError(
                    f"hidden state has shape {tuple(state.shape)}, expected {shape} for an input of shape "
                    f"{tuple(input.shape)}"
                )
            filled.append(torch.zeros(shape, dtype=input.dtype) if state is None else state)
        return step(
            F.linear(input, self.weight_ih, self.bias_ih), *filled, self.weight_hh, self.bias_hh
        )

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(RNNCellBase):
    """One step of `RNN`: returns the new state (N, hidden).

    >>> import adjoint as torch
    >>> torch.nn.RNNCell(3, 4)(torch.zeros(2, 3)).shape
    torch.Size([2, 4])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {nonlinearity}")
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._run(input, (hx,), lambda *args: _rnn_step(*args, self.nonlinearity))

    def extra_repr(self) -> str:
        usual = self.nonlinearity == "tanh"
        return super().extra_repr() + ("" if usual else f", nonlinearity={self.nonlinearity}")


class LSTMCell(RNNCellBase):
    """One step of `LSTM`: returns the new pair (h, c).

    >>> import adjoint as torch
    >>> hidden, cell = torch.nn.LSTMCell(3, 4)(torch.zeros(2, 3))
    >>> hidden.shape, cell.shape
    (torch.Size([2, 4]), torch.Size([2, 4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        return self._run(
            input, hx if hx is not None else (None, None), lambda *args: _lstm_step(*args, None)
        )


class GRUCell(RNNCellBase):
    """One step of `GRU`: returns the new state (N, hidden).

    >>> import adjoint as torch
    >>> torch.nn.GRUCell(3, 4)(torch.zeros(2, 3)).shape
    torch.Size([2, 4])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._run(input, (hx,), _gru_step)
