"""Nested Python objects as named tensors plus a JSON description, and back.

An optimizer's state is dicts in lists in dicts, with integer keys, numbers and tensors. `flatten`
takes the tensors out under readable names ("state.0.exp_avg") and describes the rest as a tree of
small JSON nodes; `rebuild` reverses it exactly. The table in `flatten`'s docstring is the format.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import adjoint as torch

FORMAT = "1"
_DEEPEST = 200


def flatten(obj: Any) -> tuple[dict[str, Any], Any]:
    """`(tensors by name, description)` of a nested object.

    None, bool, int, float, str     themselves, except non-finite floats: {"float": "inf"}
    tensor                          {"tensor": name}
    complex128 tensor               {"pairs": name}, of its real and imaginary parts: safetensors lacks the dtype
    list, tuple                     {"list": [node, ...]}, {"tuple": [node, ...]}
    dict, OrderedDict               {"dict": [[key node, node], ...]}, {"ordered": [...]}
    dtype                           {"dtype": "float32"}

    Raises TypeError naming the place of anything else: code and classes are never stored.
    """
    tensors: dict[str, Any] = {}

    def claim(path: str) -> str:
        # {"a.b": t, "a": {"b": u}} would claim one name twice.
        name, n = path, 1
        while name in tensors or name == "__metadata__":
            n += 1
            name = f"{path}#{n}"
        return name

    def visit(value: Any, path: str, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError(f"save: {path[:60]}... is nested deeper than {_DEEPEST} levels")
        inside = f"{path}." if path else ""
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, torch.Tensor):
            name = claim(path or "tensor")
            if value.dtype == torch.complex128:
                tensors[name] = torch.view_as_real(value.detach())
                return {"pairs": name}
            tensors[name] = value
            return {"tensor": name}
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"float": repr(float(value))}
        if isinstance(value, (list, tuple)):
            kind = "list" if isinstance(value, list) else "tuple"
            nodes = [visit(item, f"{inside}{i}", depth + 1) for i, item in enumerate(value)]
            return {kind: nodes}
        if isinstance(value, dict):
            kind = "ordered" if isinstance(value, OrderedDict) else "dict"
            for key in value:
                if key is not None and not isinstance(key, (bool, int, float, str, tuple)):
                    raise TypeError(
                        f"save: the dict at {path or 'the top'} has a key of type "
                        f"{type(key).__name__}; keys may be str, int, float, bool, None or tuples"
                    )
            return {
                kind: [
                    [visit(k, f"{inside}key", depth + 1), visit(v, f"{inside}{k}", depth + 1)]
                    for k, v in value.items()
                ]
            }
        if isinstance(value, torch.dtype):
            return {"dtype": str(value).rpartition(".")[2]}
        hint = ""
        if hasattr(value, "state_dict"):
            hint = "; save its state_dict() and load that into a newly built one"
        elif hasattr(value, "__array__"):
            hint = "; turn it into a tensor first"
        raise TypeError(
            f"save stores tensors, numbers, strings, None and dicts, lists and tuples of them; "
            f"at {path or 'the top'} it met {type(value).__name__}{hint}"
        )

    return tensors, visit(obj, "", 0)


def rebuild(node: Any, tensors: dict[str, Any]) -> Any:
    """The object that `flatten` described. Raises ValueError for a node it does not know."""
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    if isinstance(node, dict) and len(node) == 1:
        ((kind, content),) = node.items()
        if kind == "tensor" and isinstance(content, str) and content in tensors:
            return tensors[content]
        if kind == "pairs" and isinstance(content, str) and content in tensors:
            return torch.view_as_complex(tensors[content]).clone()
        if kind == "float" and content in ("inf", "-inf", "nan"):
            return float(content)
        if kind == "dtype" and isinstance(getattr(torch, str(content), None), torch.dtype):
            return getattr(torch, content)
        if kind in ("list", "tuple") and isinstance(content, list):
            items = [rebuild(item, tensors) for item in content]
            return items if kind == "list" else tuple(items)
        if kind in ("dict", "ordered") and isinstance(content, list):
            pairs = [(rebuild(k, tensors), rebuild(v, tensors)) for k, v in content]
            return dict(pairs) if kind == "dict" else OrderedDict(pairs)
    raise ValueError(f"load: the file describes an object this version cannot build: {node!r:.200}")
