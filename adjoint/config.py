"""Every flag of the system, declared once.

A flag is an environment variable and a row of `FLAGS`: name, type, default, help, and whether it
can change generated code (then it belongs in the key under which compiled programs are cached:
`code_key`). `get` reads the environment each time, so that a test or a session may change a flag;
callers on a hot path read once and keep the value.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def _switch(text: str) -> bool:
    known = {
        "": False,
        "0": False,
        "false": False,
        "no": False,
        "1": True,
        "true": True,
        "yes": True,
    }
    if text.lower() not in known:
        raise ValueError("expected 0 or 1")
    return known[text.lower()]


def _count(text: str) -> int:
    n = int(text)
    if n < 0:
        raise ValueError("expected a number from 0 up")
    return n


def _names(text: str) -> tuple[str, ...]:
    return tuple(sorted({part.strip() for part in text.split(",") if part.strip()}))


@dataclass(frozen=True)
class Flag:
    """One flag. parse: text of the environment -> value; ValueError for text it does not take."""

    name: str
    parse: Callable[[str], Any]
    default: Any
    help: str
    affects_code: bool = False


FLAGS: dict[str, Flag] = {
    flag.name: flag
    for flag in (
        Flag(
            "ADJOINT_EAGER",
            _switch,
            False,
            "1 runs every operation at once through its NumPy reference",
        ),
        Flag(
            "ADJOINT_DEBUG",
            _count,
            0,
            "what to print to stderr as programs are compiled, each level adding to the last: "
            "1 why each was compiled, and its kernels, 2 at every run the time of each kernel, FLOP/s and bytes/s, "
            "3 the trace as Python that runs, 4 loops and LLVM IR, 5 graphs before and after simplification",
        ),
        Flag(
            "ADJOINT_DISABLE",
            _names,
            (),
            "compiler passes to leave out, by name, separated by commas",
            True,
        ),
        Flag(
            "ADJOINT_LOOSE_ZEROS",
            _switch,
            False,
            "1 lets the compiler take x + 0.0 for x, which differs where x is -0.0",
            True,
        ),
        Flag(
            "ADJOINT_NATIVE_RECORDER",
            _switch,
            True,
            "0 records operations in Python also when a process repeats itself",
        ),
        Flag(
            "ADJOINT_CACHE",
            _switch,
            True,
            "0 neither reads nor leaves machine code and plans of programs on disk",
        ),
        Flag(
            "ADJOINT_CACHE_DIR",
            str,
            "",
            "directory for machine code and plans; empty takes adjoint/ in the user's cache directory",
        ),
        Flag(
            "ADJOINT_CACHE_BYTES",
            _count,
            256 << 20,
            "bytes of machine code and plans kept on disk; what was used longest ago goes first",
        ),
        Flag(
            "ADJOINT_MAX_KERNELS",
            _count,
            4096,
            "kernels whose machine code is kept in memory; what was asked for longest ago goes first",
        ),
        Flag(
            "ADJOINT_MAX_NODES",
            _count,
            131072,
            "places of the trie of known traces; the paths used longest ago are forgotten first",
        ),
        Flag(
            "ADJOINT_MAX_PROGRAMS",
            _count,
            2048,
            "programs kept ready; those used longest ago are forgotten first",
        ),
        Flag(
            "ADJOINT_TRIALS",
            _count,
            8,
            "how often at most NumPy runs a program before it is compiled, where ever new programs were needed of late "
            "and none was used again; 0 compiles at once",
        ),
        Flag(
            "ADJOINT_SHARED_SIZES",
            _count,
            1,
            "kernels that differ in sizes alone are one from the second program with such a kernel on; 0 compiles each for "
            "itself, 2 lets all of them read all their sizes",
            True,
        ),
        Flag(
            "ADJOINT_NUM_THREADS",
            _count,
            0,
            "threads that share a large program; 0 takes every processor",
        ),
        Flag(
            "ADJOINT_TARGET",
            str,
            "native",
            "instruction set: native, or a narrower one: avx512 (native without tile registers), avx2, sse2",
            True,
        ),
        Flag(
            "ADJOINT_GUARD",
            _switch,
            False,
            "1 also runs programs compiled from then on kernel by kernel, each buffer between pages that may not be "
            "touched, and raises GuardError where a kernel reads or writes outside its buffers",
        ),
        Flag(
            "ADJOINT_VERIFY",
            _count,
            0,
            "n > 0 checks every n-th run of programs compiled from then on against the NumPy "
            "reference, and raises VerificationError, with a script, where they differ",
        ),
    )
}


def get(name: str) -> Any:
    """The value of the flag `name`, from the environment or else its default.

    KeyError for a flag that is not declared; ValueError, naming the flag and what it takes, for
    text that does not parse.

    >>> from adjoint import config
    >>> config.get("ADJOINT_TARGET") in ("native", "avx2", "sse2")
    True
    """
    flag = FLAGS[name]
    text = os.environ.get(name)
    if text is None:
        return flag.default
    try:
        return flag.parse(text)
    except ValueError as error:
        raise ValueError(f"{name}={text!r}: {error} ({flag.help})") from None


def code_key() -> tuple[tuple[str, Any], ...]:
    """The flags that can change generated code, with their values, a part of program keys."""
    return tuple((name, get(name)) for name, flag in FLAGS.items() if flag.affects_code)


def describe() -> str:
    """All flags with their values and help, one a line, for people."""
    return "\n".join(f"{name}={get(name)!r}: {flag.help}" for name, flag in FLAGS.items())
