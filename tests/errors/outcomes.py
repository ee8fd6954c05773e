"""What became of each bad call in PyTorch, and in Adjoint where that differs: `outcomes.txt`, and how it is made.

The file has, for each good call of `calls.GOOD`, one letter per variation in the order of `bad_calls`. After a change of the
table, `python tests/errors/outcomes.py` (where PyTorch is installed) writes it anew; look at the differences before keeping it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]  # this checkout, run as a script too

import calls  # noqa: E402

FILE = Path(__file__).with_name("outcomes.txt")
LETTERS = (  # subclasses first
    ("E", AssertionError), ("N", NotImplementedError), ("R", RuntimeError), ("T", TypeError), ("I", IndexError), ("K", KeyError), ("V", ValueError),
    ("A", AttributeError), ("Z", ZeroDivisionError), ("O", OverflowError), ("S", StopIteration),
)  # fmt: skip


def letter_of(error: Exception, expected: str = "") -> str:
    """The kind of an error; the `expected` one if it is of several, as an index out of range is in Adjoint."""
    fitting = [letter for letter, kind in LETTERS if isinstance(error, kind)]
    return expected if expected in fitting else (*fitting, "?")[0]


def force(result: Any, torch: ModuleType) -> None:
    """Read every value of a result, so that what is late comes to light."""
    if isinstance(result, torch.Tensor):
        result.tolist()
    elif isinstance(result, (tuple, list)):
        for part in result:
            force(part, torch)


def texts_of(family: str, good: str, names: dict[str, Any], torch: ModuleType) -> list[str]:
    if family == "mistakes":
        return [good]
    return list(dict.fromkeys(calls.bad_calls(good, names, torch)))


def attempts(
    torch: ModuleType, family: str, good: str, expected: str | None = None, names: dict[str, Any] | None = None
) -> Iterator[tuple[str, str, Any]]:
    """(expression, letter, error or result) of every variation; values are read where an error is `expected` or nothing is known.

    names: a fresh namespace, if there is one."""
    names = names or calls.namespace(torch)
    changed = False
    for k, text in enumerate(texts_of(family, good, names, torch)):
        if changed:
            names = calls.namespace(torch)
        changed = "_(" in text or "seed" in text  # may be
        try:
            result = eval(text, names)
            if expected is None or expected[k : k + 1] != ".":
                force(result, torch)
            yield text, ".", result
        except Exception as error:
            yield text, letter_of(error, expected[k : k + 1] if expected is not None else ""), error


def goods() -> list[tuple[str, str]]:
    return [(family, good) for family, text in calls.GOOD.items() for good in text.split("\n") if good]


def read() -> dict[str, tuple[str, str]]:
    """good call: (letters of PyTorch, letters of Adjoint)."""
    found: dict[str, tuple[str, str]] = {}
    good = ""
    for line in FILE.read_text().splitlines():
        if line.startswith("  pytorch "):
            found[good] = (line[10:], line[10:])
        elif line.startswith("  here    "):
            found[good] = (found[good][0], line[10:])
        else:
            good = line
    return found


def load(torch: ModuleType) -> ModuleType:
    import importlib

    for name in ("nn.init", "optim.lr_scheduler", "utils.data", "distributions", "linalg", "special", "fft", "autograd"):
        importlib.import_module(f"{torch.__name__}.{name}")
    return torch


def main() -> None:
    import warnings

    import torch

    import adjoint

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    load(torch), load(adjoint)
    lines = []
    for family, good in goods():
        theirs = "".join(letter for _, letter, _ in attempts(torch, family, good, "." * 999))
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
        ours = "".join(letter for _, letter, _ in attempts(adjoint, family, good, theirs))
        lines += [good, f"  pytorch {theirs}"] + ([f"  here    {ours}"] if ours != theirs else [])
    FILE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
