"""Making a failing program short: statements, blocks, expressions and numbers are dropped or replaced for as long as
the failure stays.

`minimise(program, wrong)` is the function to read first. It works on the syntax tree, so it needs to know nothing of
what the program does; a candidate that names what no longer exists is not a failure.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from adjoint.testing.judge import forget_paths, run_reference
from adjoint.testing.programs import Program

_BODIES = ("body", "orelse", "finalbody")
_BAD = ("NameError", "AttributeError", "SyntaxError", "UnboundLocalError")


def minimise(program: Program, wrong: Callable[[Program], str | None], limit: int = 3000) -> Program:
    """A shorter program that is still wrong, in the same way (the words before the first comma or colon).

    limit: the most candidates that are tried.
    """
    first = wrong(program)
    kind = _kind(first)
    left = [limit]

    def still_wrong(tree: ast.Module) -> bool:
        left[0] -= 1
        if left[0] < 0:
            return False
        shorter = _program(program, tree)
        if shorter is None:
            return False
        forget_paths()
        last = run_reference(shorter, 0)[-1:]
        if last and isinstance(last[0], tuple) and last[0][:1] == ("raised",) and last[0][1] in _BAD:
            return False
        return _kind(wrong(shorter)) == kind

    tree = ast.parse(program.source)
    tree = _drop_halves(tree, still_wrong)
    shrinking = True
    while shrinking and left[0] > 0:
        shrinking = False
        for changes in (_statements, _expressions, _numbers):
            tree, changed = _exhaust(tree, changes, still_wrong)
            shrinking = shrinking or changed
    return _program(program, tree) or program


def _kind(failure: str | None) -> str | None:
    return None if failure is None else failure.replace(",", ":").split(":")[0]


def _program(program: Program, tree: ast.Module) -> Program | None:
    try:
        blocks = [ast.unparse(statement).split("\n") for statement in tree.body]
        shorter = replace(program, blocks=blocks)
        compile(shorter.source, "<shorter>", "exec")
    except (SyntaxError, ValueError, RecursionError):
        return None
    return shorter


def _drop_halves(tree: ast.Module, still_wrong: Callable[[ast.Module], bool]) -> ast.Module:
    """Without long runs of statements, halving the length each time."""
    size = len(tree.body) // 2
    while size >= 2:
        start = 0
        while start < len(tree.body):
            shorter = ast.Module(tree.body[:start] + tree.body[start + size :], [])
            if still_wrong(shorter):
                tree = shorter
            else:
                start += size
        size //= 2
    return tree


Change = Callable[[], Callable[[], None]]  # makes a change in the tree and returns how to undo it


def _exhaust(
    tree: ast.Module, changes: Callable[[ast.Module], Iterator[Change]], still_wrong: Callable[[ast.Module], bool]
) -> tuple[ast.Module, bool]:
    """Apply every change that keeps the failure. (the tree, whether it changed)"""
    changed, skip = False, 0
    while True:
        for number, change in enumerate(changes(tree)):
            if number < skip:
                continue
            undo = change()
            if still_wrong(tree):
                changed, skip = True, number
                break
            undo()
        else:
            return tree, changed


def _statements(tree: ast.Module) -> Iterator[Change]:
    """Drop one statement, the last first; or put what is inside a compound statement in its place."""
    for node in reversed(list(ast.walk(tree))):
        for field in _BODIES:
            body = getattr(node, field, None)
            if not isinstance(body, list):
                continue
            for k in reversed(range(len(body))):
                if len(body) == 1 and isinstance(body[k], ast.Pass):
                    continue
                yield partial(_cut, body, k, not isinstance(node, ast.Module))
                inner = [s for f in _BODIES for s in getattr(body[k], f, [])]
                if inner and not isinstance(body[k], ast.FunctionDef | ast.ClassDef):
                    yield partial(_put, body, k, inner)


def _cut(body: list, k: int, needs_one: bool) -> Callable[[], None]:
    return _put(body, k, [ast.Pass()] if needs_one and len(body) == 1 else [])


def _put(body: list, k: int, instead: list) -> Callable[[], None]:
    before = list(body)
    body[k : k + 1] = instead

    def undo() -> None:
        body[:] = before

    return undo


def _expressions(tree: ast.Module) -> Iterator[Change]:
    """Put a part of an expression in its place."""
    for node in ast.walk(tree):
        for field, value in ast.iter_fields(node):
            if isinstance(value, ast.expr):
                for part in _parts(value):
                    yield partial(_set, node, field, part, value)
            elif isinstance(value, list) and field in ("args", "elts", "keywords"):
                for k, item in enumerate(value):
                    if isinstance(item, ast.expr):
                        for part in _parts(item):
                            yield partial(_put, value, k, [part])
                    if isinstance(node, ast.Call):
                        yield partial(_put, value, k, [])


def _parts(e: ast.expr) -> list[Any]:
    found: list[Any] = []
    if isinstance(e, ast.Call):
        if isinstance(e.func, ast.Attribute) and not _is_module(e.func.value):
            found.append(e.func.value)
        found += [a for a in e.args if not isinstance(a, ast.Lambda)]
        found += [a.body for a in e.args if isinstance(a, ast.Lambda)]
    elif isinstance(e, ast.BinOp):
        found += [e.left, e.right]
    elif isinstance(e, ast.UnaryOp):
        found.append(e.operand)
    elif isinstance(e, ast.Subscript):
        found.append(e.value)
    elif isinstance(e, ast.IfExp):
        found += [e.body, e.orelse]
    elif isinstance(e, ast.Compare):
        found.append(e.left)
    return found


def _is_module(e: ast.expr) -> bool:
    root: Any = e
    while isinstance(root, ast.Attribute):
        root = root.value
    return isinstance(root, ast.Name) and root.id in ("torch", "np", "nn", "copy", "pickle")


def _set(node: Any, field: str, part: Any, before: Any) -> Callable[[], None]:
    setattr(node, field, part)
    return lambda: setattr(node, field, before)


def _numbers(tree: ast.Module) -> Iterator[Change]:
    """Make a size smaller wherever it occurs, or one number simpler."""
    numbers: list[Any] = [n for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    whole = [n for n in numbers if type(n.value) is int and n.value > 1]
    for value in sorted({n.value for n in whole}, reverse=True):
        for smaller in (1, 2, value - 1):
            if smaller < value:
                yield partial(_set_all, [n for n in whole if n.value == value], smaller, value)
    for n in whole:
        yield partial(_set, n, "value", n.value - 1, n.value)
    for n in numbers:
        if type(n.value) is float and n.value not in (1.0, 0.5):
            yield partial(_set, n, "value", 0.5, n.value)


def _set_all(nodes: list[Any], value: int, before: int) -> Callable[[], None]:
    for n in nodes:
        n.value = value

    def undo() -> None:
        for n in nodes:
            n.value = before

    return undo
