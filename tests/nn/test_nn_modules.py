"""`Module` and the containers: registration, walks, hooks, saving and loading, printing."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("offset", torch.zeros(1))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)

    def forward(self, x: Any, shift: float = 0.0) -> Any:
        return self.block(self.first(x)) * self.scale + self.offset + shift


NAMES = ["scale", "first.weight", "first.bias", "block.0.weight", "block.0.bias"]


def test_walks() -> None:
    net = Net()
    assert [n for n, _ in net.named_parameters()] == NAMES
    assert [n for n, _ in net.named_parameters(prefix="net", recurse=False)] == ["net.scale"]
    assert [n for n, _ in net.named_buffers()] == ["offset", "scratch"]
    assert [n for n, _ in net.named_children()] == ["first", "block"]
    assert [n for n, _ in net.named_modules()] == ["", "first", "block", "block.0", "block.1"]
    assert net.get_submodule("block.0") is net.block[0] and net.get_submodule("") is net
    assert net.get_parameter("first.bias") is net.first.bias
    assert net.get_buffer("offset") is net.offset
    with pytest.raises(AttributeError, match="has no attribute `nothing`"):
        net.get_submodule("block.nothing")
    with pytest.raises(AttributeError, match="is not an nn.Parameter"):
        net.get_parameter("offset")


def test_shared_members_appear_once() -> None:
    layer = nn.Linear(2, 2)
    net = nn.Sequential(layer, layer)
    assert len(list(net.parameters())) == 2 and len(list(net.modules())) == 2
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    layer.bias = layer.weight
    assert len(list(net.parameters())) == 1


def test_attributes_live_in_one_place() -> None:
    net = Net()
    weight = nn.Parameter(torch.zeros(2))
    net.extra = 3
    net.extra = weight
    assert (
        "extra" not in vars(net)
        and net.extra is weight
        and dict(net.named_parameters())["extra"] is weight
    )
    net.extra = None
    assert net.extra is None and "extra" not in dict(net.named_parameters())
    with pytest.raises(TypeError, match="cannot assign 'int' as parameter 'extra'"):
        net.extra = 3
    with pytest.raises(TypeError, match="as child module 'first'"):
        net.first = 3
    with pytest.raises(TypeError, match="as buffer 'offset'"):
        net.offset = 3
    net.offset = torch.ones(1)
    assert net.get_buffer("offset").item() == 1
    del net.first
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'first'"):
        _ = net.first
    assert "block" in dir(net)
    # Assigning a parameter again keeps its place in the order.
    other = nn.Linear(2, 2)
    other.weight = nn.Parameter(torch.zeros(2, 2))
    assert [n for n, _ in other.named_parameters()] == ["weight", "bias"]


def test_registration_errors() -> None:
    net = Net()
    for name, kind, message in [
        ("a.b", KeyError, "contain"),
        ("", KeyError, "be empty string"),
        ("forward", KeyError, "already exists"),
        (3, TypeError, "should be a string"),
    ]:
        with pytest.raises(kind, match=message):
            net.register_parameter(name, nn.Parameter(torch.zeros(1)))
        with pytest.raises(kind, match=message):
            net.register_buffer(name, torch.zeros(1))
        with pytest.raises(kind, match=message):
            net.add_module(name, nn.ReLU())
    with pytest.raises(TypeError, match="is not a Module subclass"):
        net.add_module("x", 3)
    with pytest.raises(TypeError, match="Parameter or None required"):
        net.register_parameter("x", torch.zeros(1))

    class Late(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.ReLU()

    with pytest.raises(AttributeError, match="before Module.__init__"):
        Late()
    with pytest.raises(NotImplementedError, match='missing the required "forward" function'):
        nn.Module()(1)


def test_state_dict_round_trip() -> None:
    torch.manual_seed(0)
    a, b = Net(), Net()
    x = torch.randn(2, 3)
    state = a.state_dict()
    assert list(state) == [
        "scale",
        "offset",
        "first.weight",
        "first.bias",
        "block.0.weight",
        "block.0.bias",
    ]
    assert not state["scale"].requires_grad and a.state_dict(keep_vars=True)["scale"] is a.scale
    assert not (a(x) == b(x)).all().item()
    result = b.load_state_dict(state)
    assert repr(result) == "<All keys matched successfully>"
    assert (a(x) == b(x)).all().item()
    with torch.no_grad():
        a.scale.fill_(5)
    assert b.scale.item() == 1 and state["scale"].item() == 5  # copied into b, shared with a


def test_load_state_dict_reports_all_keys() -> None:
    net = Net()
    state = OrderedDict(net.state_dict())
    del state["first.bias"]
    state["first.weights"] = torch.zeros(1)
    state["scale"] = torch.zeros(3)
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(state)
    assert str(caught.value) == (
        "Error(s) in loading state_dict for Net:\n"
        '\tMissing key(s) in state_dict: "first.bias". \n'
        '\tUnexpected key(s) in state_dict: "first.weights". \n'
        "\tsize mismatch for scale: copying a param with shape torch.Size([3]) from checkpoint, "
        "the shape in current model is torch.Size([1])."
    )
    del state["scale"]
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert missing == ["scale", "first.bias"] and unexpected == ["first.weights"]


def test_load_state_dict_assign() -> None:
    net = nn.Linear(2, 1)
    given = {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}
    net.load_state_dict(given, assign=True)
    assert isinstance(net.weight, nn.Parameter) and net(torch.ones(2)).item() == 2


def test_conversion_and_modes() -> None:
    net = Net()
    net.register_buffer("count", torch.tensor(3))
    net.double()
    assert {p.dtype for p in net.parameters()} == {torch.float64}
    assert net.offset.dtype == torch.float64 and net.count.dtype == torch.int64
    assert net(torch.zeros(1, 3, dtype=torch.float64)).dtype == torch.float64
    assert net.to(torch.zeros(1)).scale.dtype == torch.float32
    assert net.to("cpu", torch.float64).float().scale.dtype == torch.float32
    with pytest.raises(TypeError, match="floating point"):
        net.to(torch.int64)
    assert not net.eval().block[1].training and net.train().block[0].training
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())


def test_gradients_reach_parameters_and_are_cleared() -> None:
    net = Net()
    net(torch.ones(1, 3)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert all(p.grad.abs().sum().item() == 0 for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_apply_and_copy() -> None:
    seen: list[str] = []
    net = Net()
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Linear", "Linear", "ReLU", "Sequential", "Net"]
    twin = copy.deepcopy(net)
    with torch.no_grad():
        twin.scale.fill_(7)
    assert net.scale.item() == 1 and isinstance(twin.scale, nn.Parameter)
    assert (twin.first.weight == net.first.weight).all().item()


def test_a_copied_module_begins_without_gradients() -> None:
    """As in PyTorch; a copied leaf that is no parameter keeps its own."""
    net = nn.Linear(2, 1)
    net(torch.ones(1, 2)).sum().backward()
    assert all(p.grad is None for p in copy.deepcopy(net).parameters())
    x = torch.ones(2, requires_grad=True)
    x.sum().backward()
    assert copy.deepcopy(x).grad.tolist() == [1, 1]


@pytest.mark.parametrize("by_module", [False, True])
def test_zeros_are_written_where_the_gradient_lies(by_module: bool) -> None:
    net, flat = nn.Linear(2, 1), torch.ones(3)
    net.weight.grad, net.bias.grad = flat[:2].view(1, 2), flat[2:]
    before = net.weight.grad
    (net if by_module else torch.optim.SGD(net.parameters(), lr=0.1)).zero_grad(set_to_none=False)
    assert flat.tolist() == [0, 0, 0] and net.weight.grad is before
    net(torch.ones(1, 2)).sum().backward()
    assert flat.tolist() == [1, 1, 1]


def test_hooks() -> None:
    net = Net()
    calls: list[Any] = []
    before = net.register_forward_pre_hook(lambda m, args: calls.append("pre") or (args[0] * 0,))
    after = net.register_forward_hook(lambda m, args, out: calls.append("post") or out + 100)
    first = net.register_forward_hook(lambda m, args, out: calls.append("first"), prepend=True)
    out = net(torch.ones(1, 3))
    assert calls == ["pre", "first", "post"]
    before.remove()
    after.remove()
    first.remove()
    np.testing.assert_allclose(
        out.detach().numpy(), net(torch.zeros(1, 3)).detach().numpy() + 100, rtol=1e-6
    )
    seen: list[Any] = []
    shifting = net.register_forward_pre_hook(lambda m, a, k: (a, {"shift": 5.0}), with_kwargs=True)
    with shifting, net.register_forward_hook(lambda m, a, k, out: seen.append(k), with_kwargs=True):
        net(torch.zeros(1, 3), shift=1.0)
    assert seen == [{"shift": 5.0}]
    failed: list[Any] = []
    net.register_forward_hook(lambda m, args, out: failed.append(out), always_call=True)
    with pytest.raises(RuntimeError):
        net(torch.zeros(1, 4))
    assert failed == [None]


def test_sequential() -> None:
    net = nn.Sequential(OrderedDict(a=nn.Linear(2, 3), b=nn.ReLU(), c=nn.Linear(3, 1)))
    assert len(net) == 3 and net[-1] is net.c and [type(m) for m in net[:2]] == [nn.Linear, nn.ReLU]
    assert list(net[1:].state_dict()) == ["c.weight", "c.bias"]
    net.append(nn.Tanh()).insert(0, nn.Identity())
    assert [type(m).__name__ for m in net] == ["Identity", "Linear", "ReLU", "Linear", "Tanh"]
    del net[0]
    assert isinstance(net.pop(-1), nn.Tanh) and len(net) == 3
    net[1] = nn.Sigmoid()
    assert len(net + nn.Sequential(nn.Tanh())) == 4
    with pytest.raises(IndexError, match="index 5 is out of range"):
        net[5]


def test_module_list_and_dict() -> None:
    layers = nn.ModuleList([nn.Linear(2, 2)])
    layers += [nn.ReLU()]
    layers.insert(0, nn.Identity())
    assert [type(m).__name__ for m in layers] == ["Identity", "Linear", "ReLU"]
    assert isinstance(layers[1:], nn.ModuleList) and list(layers[1:].state_dict()) == [
        "0.weight",
        "0.bias",
    ]
    table = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.ReLU()})
    table["c"] = nn.Tanh()
    assert list(table) == ["a", "b", "c"] and "a" in table and isinstance(table.pop("b"), nn.ReLU)
    assert [k for k, _ in table.items()] == ["a", "c"] and len(list(table.parameters())) == 2


def test_parameter_list_and_dict() -> None:
    weights = nn.ParameterList([torch.ones(2), nn.Parameter(torch.zeros(3))])
    weights.append(torch.ones(1))
    assert len(weights) == 3 and all(isinstance(p, nn.Parameter) for p in weights)
    assert [n for n, _ in weights.named_parameters()] == ["0", "1", "2"] and weights[
        -1
    ].numel() == 1
    assert len(weights[:2]) == 2
    table = nn.ParameterDict({"a": torch.ones(2)})
    table["b"] = nn.Parameter(torch.zeros(1))
    assert list(table) == ["a", "b"] and isinstance(table["a"], nn.Parameter)
    assert len(list(table.parameters())) == 2 and table.pop("a").numel() == 2 and "a" not in table


def test_parameter() -> None:
    p = nn.Parameter(torch.ones(2))
    assert p.requires_grad and p.is_leaf and isinstance(p, torch.Tensor)
    assert not nn.Parameter(torch.ones(2), requires_grad=False).requires_grad
    assert repr(p) == "Parameter containing:\ntensor([1., 1.], requires_grad=True)"


# Constructor expressions, evaluated in both libraries: their printed forms must be equal.
PRINTED = [
    "nn.Linear(3, 4, bias=False)",
    "nn.Bilinear(2, 3, 4)",
    "nn.Identity(5)",
    "nn.Embedding(5, 3, padding_idx=-1, max_norm=1.0)",
    "nn.Conv1d(2, 4, 3)",
    "nn.Conv2d(2, 4, 3, stride=2, padding=1, dilation=2, groups=2, bias=False)",
    "nn.Conv2d(2, 4, 3, padding='same', padding_mode='reflect')",
    "nn.Conv3d(1, 1, (1, 2, 3))",
    "nn.ConvTranspose2d(2, 4, 3, stride=2, output_padding=1)",
    "nn.MaxPool2d(2, padding=1)",
    "nn.MaxPool1d(3, ceil_mode=True)",
    "nn.AvgPool1d(2)",
    "nn.AvgPool2d((2, 3), stride=1)",
    "nn.AdaptiveAvgPool2d((1, None))",
    "nn.AdaptiveMaxPool2d(1)",
    "nn.BatchNorm2d(3, affine=False)",
    "nn.InstanceNorm2d(3)",
    "nn.LayerNorm((3, 4))",
    "nn.GroupNorm(2, 4, affine=False)",
    "nn.LocalResponseNorm(2)",
    "nn.Dropout(0.1)",
    "nn.Dropout2d(inplace=True)",
    "nn.ReLU()",
    "nn.ReLU(inplace=True)",
    "nn.ReLU6()",
    "nn.LeakyReLU(0.2)",
    "nn.ELU(alpha=2.0, inplace=True)",
    "nn.CELU()",
    "nn.SELU()",
    "nn.GELU('tanh')",
    "nn.SiLU()",
    "nn.Mish()",
    "nn.Sigmoid()",
    "nn.Tanh()",
    "nn.Softplus()",
    "nn.Softsign()",
    "nn.Hardtanh(-2, 2)",
    "nn.Hardswish()",
    "nn.Hardsigmoid()",
    "nn.Hardshrink(0.3)",
    "nn.Softshrink()",
    "nn.PReLU(3)",
    "nn.Softmax(dim=1)",
    "nn.LogSoftmax(dim=-1)",
    "nn.Softmin(0)",
    "nn.LogSigmoid()",
    "nn.Threshold(0.1, 20)",
    "nn.GLU()",
    "nn.Tanhshrink()",
    "nn.MSELoss()",
    "nn.CrossEntropyLoss()",
    "nn.BCEWithLogitsLoss()",
    "nn.Flatten()",
    "nn.Unflatten(1, (2, 3))",
    "nn.Unfold(2)",
    "nn.Fold((4, 4), 2)",
    "nn.ZeroPad2d(1)",
    "nn.ReflectionPad2d((1, 2, 3, 4))",
    "nn.ConstantPad1d(2, 3.5)",
    "nn.Upsample(scale_factor=2, mode='bilinear')",
    "nn.UpsamplingNearest2d(size=4)",
    "nn.PixelShuffle(2)",
    "nn.ChannelShuffle(2)",
    "nn.RReLU(inplace=True)",
    "nn.RNN(3, 4, nonlinearity='relu')",
    "nn.LSTM(3, 4, num_layers=2, batch_first=True, bidirectional=True)",
    "nn.GRU(3, 4, bias=False, dropout=0.5, num_layers=2)",
    "nn.LSTMCell(3, 4)",
    "nn.RNNCell(3, 4, bias=False)",
    "nn.Sequential()",
    "nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Dropout()))",
    "nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU()])",
    "nn.ModuleDict({'a': nn.ReLU(), 'b': nn.Linear(1, 1)})",
]


@pytest.mark.parametrize("text", PRINTED)
def test_printed_as_pytorch_prints(text: str) -> None:
    other = pytest.importorskip("torch")
    assert repr(eval(text, {"nn": nn})) == repr(eval(text, {"nn": other.nn}))


def test_printed_form() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU()))
    assert repr(net) == (
        "Sequential(\n  (0): Linear(in_features=2, out_features=3, bias=True)\n"
        "  (1): Sequential(\n    (0): ReLU()\n  )\n)"
    )


def test_clipping_and_vectors() -> None:
    rng = np.random.default_rng(0)
    values = [rng.standard_normal((3, 2)), rng.standard_normal(4)]
    for norm in (1.0, 2.0, float("inf")):
        params = [
            torch.zeros(3, 2, dtype=torch.float64, requires_grad=True),
            torch.zeros(4, dtype=torch.float64, requires_grad=True),
        ]
        for p, v in zip(params, values, strict=True):
            p.grad = torch.from_numpy(v.copy())
        flat = np.concatenate([v.ravel() for v in values])
        total = nn.utils.clip_grad_norm_(params, 0.5, norm_type=norm)
        np.testing.assert_allclose(total.item(), np.linalg.norm(flat, norm), rtol=1e-12)
        clipped = np.concatenate([p.grad.numpy().ravel() for p in params])
        np.testing.assert_allclose(
            clipped, flat * 0.5 / (np.linalg.norm(flat, norm) + 1e-6), rtol=1e-9
        )
    nn.utils.clip_grad_norm_(params, 100.0)
    np.testing.assert_allclose(
        np.concatenate([p.grad.numpy().ravel() for p in params]), clipped, rtol=1e-12
    )
    nn.utils.clip_grad_value_(params, 0.01)
    assert max(p.grad.abs().max().item() for p in params) <= 0.01
    params[0].grad[0, 0] = float("nan")
    with pytest.raises(RuntimeError, match="non-finite"):
        nn.utils.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)

    net = nn.Linear(2, 3)
    vector = nn.utils.parameters_to_vector(net.parameters())
    assert vector.shape == (9,) and vector.requires_grad
    nn.utils.vector_to_parameters(torch.arange(9.0), net.parameters())
    assert net.weight.tolist() == [[0, 1], [2, 3], [4, 5]] and net.bias.tolist() == [6, 7, 8]


def test_modules_become_complex_and_real_again() -> None:
    layer = torch.nn.Linear(2, 2)
    weight = layer.weight.tolist()
    assert layer.to(torch.complex64).weight.dtype is layer.bias.dtype is torch.complex64
    assert isinstance(layer.weight, torch.nn.Parameter) and layer.weight.requires_grad
    assert layer.to(torch.float32).weight.tolist() == weight


class Pair(nn.Module):
    """Two results of two tensors and a number, and something that is no tensor."""

    def forward(self, x: Any, factor: int, y: Any) -> tuple[Any, Any, str]:
        return x * y * factor, x + y, "third"


def seen(gradients: Any) -> list[Any]:
    return [None if g is None else g.tolist() for g in gradients]


def test_backward_hooks() -> None:
    """What hooks are given and what becomes of their results; the numbers are PyTorch's."""
    calls: list[Any] = []
    module = Pair()

    def pre(m: Any, grad_output: Any) -> Any:
        calls.append(seen(grad_output))
        return tuple(None if g is None else g * 2 for g in grad_output)

    def hook(m: Any, grad_input: Any, grad_output: Any) -> Any:
        calls.append((seen(grad_input), seen(grad_output)))
        return tuple(None if g is None else g * 10 for g in grad_input)

    module.register_full_backward_pre_hook(pre)
    handle = module.register_full_backward_hook(hook)
    x, y = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3.0, 4.0])
    a, b, c = module(x, 2, y)
    assert c == "third"
    (a.sum() + 3 * b.sum()).backward()
    assert calls == [[[1.0, 1.0], [3.0, 3.0], None], ([[18.0, 22.0], None, [0.0, 0.0]], [[2.0, 2.0], [6.0, 6.0], None])]
    assert x.grad.tolist() == [180.0, 220.0]
    x.grad = None
    calls.clear()
    module(x, 2, y)[1].sum().backward()
    assert calls == [[None, [1.0, 1.0], None], ([[2.0, 2.0], None, [0.0, 0.0]], [None, [2.0, 2.0], None])]
    handle.remove()
    x.grad = None
    module(x, 2, y)[0].sum().backward()
    assert x.grad.tolist() == [12.0, 16.0]
    with torch.no_grad():
        assert not module(x, 2, y)[0].requires_grad


def test_backward_hooks_of_a_layer() -> None:
    calls: list[Any] = []
    layer = nn.Linear(2, 1)
    layer.register_full_backward_hook(lambda m, i, o: calls.append("second"))
    layer.register_full_backward_hook(lambda m, i, o: calls.append(seen(i)), prepend=True)
    with pytest.warns(UserWarning, match="no inputs require gradients"):
        layer(torch.ones(3, 2)).sum().backward()
    assert calls == [[None], "second"] and layer.weight.grad.tolist() == [[3.0, 3.0]]
    calls.clear()
    x = torch.ones(3, 2, requires_grad=True)
    (g,) = torch.autograd.grad((layer(x) ** 2).sum(), x, create_graph=True)
    (g * g).sum().backward()
    with torch.no_grad():
        w = layer.weight
        wanted = 8 * (layer.forward(x) * (w * w).sum()) * w
        assert torch.allclose(x.grad, wanted)
    assert calls[1::2] == ["second", "second"]


def test_backward_hooks_that_return_something_else() -> None:
    x = torch.ones(2, requires_grad=True)
    layer = nn.ReLU()
    with layer.register_full_backward_hook(lambda m, i, o: (i[0], i[0])):
        out = layer(x)
    with pytest.raises(RuntimeError, match="invalid number of grad_input, got 2, but expected 1"):
        out.sum().backward()
    with layer.register_full_backward_pre_hook(lambda m, o: ()):
        out = layer(x)
    with pytest.raises(RuntimeError, match="invalid number of grad_output, got 0, but expected 1"):
        out.sum().backward()
    linear = nn.Linear(2, 1)
    linear.register_full_backward_hook(lambda m, i, o: (o[0],))
    with pytest.warns(UserWarning), pytest.raises(RuntimeError, match="should always return None"):
        linear(torch.ones(1, 2)).sum().backward()
    inplace = nn.ReLU(inplace=True)
    inplace.register_full_backward_hook(lambda m, i, o: None)
    with pytest.raises(RuntimeError, match="was modified inplace"):
        inplace(x * 1)


def test_compiled_functions_see_a_new_backward_hook() -> None:
    layer = nn.Linear(2, 1, bias=False)
    x = torch.ones(1, 2)

    @torch.compile
    def step() -> Any:
        layer.weight.grad = None
        layer(x).sum().backward()

    for _ in range(4):
        step()
    assert layer.weight.grad.tolist() == [[1.0, 1.0]]
    layer.register_full_backward_pre_hook(lambda m, o: (o[0] * 3,))
    for _ in range(4):
        step()
        assert layer.weight.grad.tolist() == [[3.0, 3.0]]
