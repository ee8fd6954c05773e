"""Hooks around saving and loading, and what a module saves besides tensors: the same as in PyTorch, by one program for both."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import adjoint

try:
    import torch as pytorch
except ImportError:
    pytorch = None

LIBRARIES = [adjoint] if pytorch is None else [adjoint, pytorch]


def nn_of(lib: Any) -> Any:
    return importlib.import_module(lib.__name__ + ".nn")


def renamed(lib: Any) -> list[Any]:
    """A class that changed a name, and reads what its older version wrote."""
    nn = nn_of(lib)

    class Old(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(lib.full((2,), 3.0))

    class New(nn.Module):
        _version = 2

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(lib.ones(2))

        def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *rest: Any) -> None:
            if local_metadata.get("version", 1) < 2:
                state_dict[prefix + "scale"] = state_dict.pop(prefix + "gain")
            super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    old, new = nn.Sequential(Old(), nn.ReLU()), nn.Sequential(New(), nn.ReLU())
    first = repr(new.load_state_dict(old.state_dict()))
    with lib.no_grad():
        new[0].scale.mul_(2)
    again = nn.Sequential(New(), nn.ReLU())
    second = repr(again.load_state_dict(new.state_dict()))
    return [first, second, new[0].scale.tolist(), again[0].scale.tolist(), dict(new.state_dict()._metadata)]


def extra(lib: Any) -> list[Any]:
    """A counter, which is no tensor."""
    nn = nn_of(lib)

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def get_extra_state(self) -> Any:
            return {"calls": self.calls}

        def set_extra_state(self, state: Any) -> None:
            self.calls = state["calls"]

    made = nn.Sequential(nn.Linear(1, 1), Counting())
    made[1].calls = 7
    state = made.state_dict()
    other = nn.Sequential(nn.Linear(1, 1), Counting())
    told = [list(state), repr(other.load_state_dict(state)), other[1].calls]
    state.pop("1._extra_state")
    told.append(other.load_state_dict(state, strict=False))
    told.append(refused(lambda: other.load_state_dict(state)))
    plain = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    told.append(refused(lambda: plain.load_state_dict(made.state_dict())))
    return told


def refused(call: Any) -> str:
    with pytest.raises(RuntimeError) as caught:
        call()
    return str(caught.value)


def hooks(lib: Any) -> list[Any]:
    nn = nn_of(lib)
    told: list[Any] = []
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1, bias=False))
    handles = [
        net.register_state_dict_pre_hook(lambda module, prefix, keep: told.append(("before all", prefix, keep))),
        net[1].register_state_dict_pre_hook(lambda module, prefix, keep: told.append(("before", prefix, keep))),
        net[0].register_state_dict_post_hook(lambda module, state, prefix, about: told.append((prefix, list(state), about))),
        net._register_state_dict_hook(lambda module, state, prefix, about: {"all." + k: v for k, v in state.items()}),
        net.register_load_state_dict_pre_hook(lambda module, state, prefix, *rest: [state.setdefault(k[4:], state.pop(k)) for k in list(state)]),
        net[0]._register_load_state_dict_pre_hook(lambda state, prefix, *rest: told.append(("one", prefix, sorted(state)))),
        net[0]._register_load_state_dict_pre_hook(lambda module, state, prefix, *rest: told.append(type(module).__name__), with_module=True),
        net[0].register_load_state_dict_post_hook(lambda module, keys: told.append(("after one", [*keys.missing_keys]))),
        net.register_load_state_dict_post_hook(lambda module, keys: keys.missing_keys.clear()),
    ]
    state = net.state_dict(keep_vars=True)
    told.append(list(state))
    del state["all.0.bias"]
    told.append(repr(net.load_state_dict(state)))
    for handle in handles:
        handle.remove()
    told.append(list(net.state_dict()))
    return told


def wrong_hooks(lib: Any) -> list[Any]:
    net = nn_of(lib).Linear(1, 1)
    net.register_state_dict_post_hook(lambda module, state, prefix, about: state)
    with pytest.raises(RuntimeError, match="must return None"):
        net.state_dict()
    net = nn_of(lib).Linear(1, 1)
    net.register_load_state_dict_post_hook(lambda module, keys: keys)
    with pytest.raises(AssertionError, match="[Hh]ooks registered with"):
        net.load_state_dict(net.state_dict())
    for name in ("get_extra_state", "set_extra_state"):
        with pytest.raises(RuntimeError):
            getattr(net, name)(*[None] * (name[0] == "s"))
    return []


def unexpected(lib: Any) -> list[Any]:
    nn = nn_of(lib)
    net = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    state = {**net.state_dict(), "2.weight": lib.ones(1), "0.gain": lib.ones(1), "0.weight.deep": lib.ones(1), "top": lib.ones(1)}
    found = net.load_state_dict(state, strict=False)
    return [sorted(found.unexpected_keys), found.missing_keys, sorted(net.state_dict()._metadata)]


def optimizers(lib: Any) -> list[Any]:
    told: list[Any] = []
    w = lib.ones(2, requires_grad=True)
    optimizer = lib.optim.SGD([w], lr=0.5)
    optimizer.register_state_dict_pre_hook(lambda o: told.append("saving"))
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "note": "mine"})
    optimizer.register_state_dict_post_hook(lambda o, state: told.append(sorted(state)), prepend=True)
    optimizer.register_load_state_dict_pre_hook(lambda o, state: told.append(state.pop("note")))
    optimizer.register_load_state_dict_pre_hook(lambda o, state: {**state, "param_groups": [{**state["param_groups"][0], "lr": 0.25}]})
    optimizer.register_load_state_dict_post_hook(lambda o: told.append(o.param_groups[0]["lr"]))
    state = optimizer.state_dict()
    told.append(sorted(state))
    optimizer.load_state_dict(state)
    return told


@pytest.mark.parametrize("program", [renamed, extra, hooks, wrong_hooks, unexpected, optimizers], ids=lambda p: p.__name__)
def test_same_as_pytorch(program: Any) -> None:
    told = [program(lib) for lib in LIBRARIES]
    assert all(found == told[0] for found in told), told


def test_what_they_do() -> None:
    first, second, mine, other, about = renamed(adjoint)
    assert first == second == "<All keys matched successfully>"
    assert mine == other == [6.0, 6.0]
    assert about["0"] == {"version": 2}
    names, matched, calls, *_ = extra(adjoint)
    assert names == ["0.weight", "0.bias", "1._extra_state"] and calls == 7 and "matched" in matched
    assert hooks(adjoint)[-2:] == ["<All keys matched successfully>", ["0.weight", "0.bias", "1.weight"]]
    assert optimizers(adjoint) == ["saving", ["param_groups", "state"], ["note", "param_groups", "state"], "mine", 0.25]
