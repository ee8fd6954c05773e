"""The safetensors container: named arrays in one file whose every byte is accounted for.

    8 bytes, little-endian    length of the header
    header                    JSON: name -> {"dtype", "shape", "data_offsets": [begin, end]}
    data                      the arrays, little-endian, row-major, back to back

Structures owned here: `CODES` (dtype names of the format) and `Entry` (one array's place). A file
is treated as hostile: each number is checked before it is used, nothing is allocated on the word of
the header alone, and the ranges must tile the data exactly, so no byte is read twice or hidden.
Read `parse_header`. Format: https://github.com/huggingface/safetensors (section "Format").
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

MAX_HEADER = 100_000_000
LENGTH_BYTES = 8
_MAX_BYTES = 2**63 - 1
_MAX_RANK = 64  # NumPy's own limit

# The format's code -> (PyTorch's dtype name, bytes per element, how NumPy reads it, or None).
CODES: dict[str, tuple[str, int, str | None]] = {
    "BOOL": ("bool", 1, "|b1"),
    "U8": ("uint8", 1, "|u1"),
    "I8": ("int8", 1, "|i1"),
    "U16": ("uint16", 2, "<u2"),
    "I16": ("int16", 2, "<i2"),
    "U32": ("uint32", 4, "<u4"),
    "I32": ("int32", 4, "<i4"),
    "U64": ("uint64", 8, "<u8"),
    "I64": ("int64", 8, "<i8"),
    "F16": ("float16", 2, "<f2"),
    "BF16": ("bfloat16", 2, "<u2"),  # bit patterns
    "F32": ("float32", 4, "<f4"),
    "F64": ("float64", 8, "<f8"),
    "C64": ("complex64", 8, "<c8"),
    "F8_E4M3": ("float8_e4m3fn", 1, None),
    "F8_E5M2": ("float8_e5m2", 1, None),
}
CODE_OF = {name: code for code, (name, _, form) in CODES.items() if form is not None}


class Entry(NamedTuple):
    """Where one array lies: `begin` and `end` count from the first byte after the header."""

    name: str
    code: str
    shape: tuple[int, ...]
    begin: int
    end: int


def _refuse(source: str, problem: str) -> ValueError:
    return ValueError(f"{source} is not a valid safetensors file: {problem}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Object hook for `json`: of a repeated key two readers could take different ones."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} occurs twice in the header")
        found[key] = value
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def header_length(first: bytes, available: int | None, source: str) -> int:
    """The header's length from the file's first 8 bytes; `available`: how many follow, if known."""
    if len(first) < LENGTH_BYTES:
        raise _refuse(source, f"it has {len(first)} bytes, and the header's length alone takes 8")
    n = int.from_bytes(first, "little")
    if n > MAX_HEADER:
        raise _refuse(source, f"its header claims {n} bytes; the limit is {MAX_HEADER}")
    if n < 2:
        raise _refuse(source, f"its header claims {n} bytes, less than the smallest JSON object")
    if available is not None and n > available:
        raise _refuse(source, f"its header claims {n} bytes, but only {available} follow")
    return n


def parse_header(header: bytes, source: str) -> tuple[list[Entry], dict[str, str], int]:
    """`(entries in header order, metadata, bytes of data)`; ValueError names the first fault."""
    if header[:1] != b"{":
        raise _refuse(source, f"its header starts with {header[:1]!r} instead of '{{'")
    try:
        fields = json.loads(
            header.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as problem:  # UnicodeDecodeError is a ValueError as well
        raise _refuse(source, f"its header cannot be read ({problem})") from None
    metadata = fields.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _refuse(source, "__metadata__ must map strings to strings")
    entries = [_entry(name, description, source) for name, description in fields.items()]
    return entries, metadata, _check_tiling(entries, source)


def _entry(name: str, description: Any, source: str) -> Entry:
    if not isinstance(description, dict) or set(description) != {"dtype", "shape", "data_offsets"}:
        raise _refuse(
            source, f"entry {name!r} must have exactly the keys dtype, shape and data_offsets"
        )
    code, shape = description["dtype"], description["shape"]
    offsets = description["data_offsets"]
    if not isinstance(code, str) or code not in CODES:
        raise _refuse(source, f"entry {name!r} has the unknown dtype {code!r}")
    for what, numbers in (("shape", shape), ("data_offsets", offsets)):
        whole = isinstance(numbers, list) and all(type(v) is int and v >= 0 for v in numbers)
        if not whole:
            raise _refuse(
                source, f"entry {name!r}: {what} must be a list of integers >= 0, got {numbers!r}"
            )
    if len(shape) > _MAX_RANK:
        raise _refuse(
            source, f"entry {name!r} has {len(shape)} dimensions; the limit is {_MAX_RANK}"
        )
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _refuse(source, f"entry {name!r}: data_offsets {offsets} are not [begin, end]")
    # Python integers do not wrap, so one comparison catches every overflow of the product.
    size = math.prod(shape) * CODES[code][1]
    if max(size, offsets[1], *shape, 0) > _MAX_BYTES:
        raise _refuse(
            source, f"entry {name!r}: shape {shape} or offsets {offsets} overflow 64 bits"
        )
    if offsets[1] - offsets[0] != size:
        raise _refuse(
            source,
            f"entry {name!r}: {code} of shape {shape} takes {size} bytes, "
            f"but data_offsets {offsets} span {offsets[1] - offsets[0]}",
        )
    return Entry(name, code, tuple(shape), offsets[0], offsets[1])


def _check_tiling(entries: list[Entry], source: str) -> int:
    """Bytes of data, after checking that the entries cover them without gap or overlap."""
    end = 0
    for entry in sorted(entries, key=lambda e: (e.begin, e.end)):
        if entry.begin != end:
            fault = (
                "overlaps the entry before it" if entry.begin < end else "leaves a gap before it"
            )
            raise _refuse(
                source, f"entry {entry.name!r} starts at {entry.begin}, not at {end}: it {fault}"
            )
        end = entry.end
    return end


def encode(
    arrays: Mapping[str, tuple[str, np.ndarray]], metadata: Mapping[str, str]
) -> list[bytes]:
    """The file as a list of chunks, from (PyTorch's dtype name, memory as an array) by name, in the mapping's order.

    The data is laid out by falling element size, so that every array starts at a multiple of its
    element size and can be mapped into memory. Raises TypeError for a dtype the format lacks.
    """
    ready: dict[str, np.ndarray] = {}
    codes: dict[str, str] = {}
    for name, (dtype, array) in arrays.items():
        if name == "__metadata__":
            raise ValueError("'__metadata__' is reserved by the format and cannot name a tensor")
        little = array.dtype.newbyteorder("<")
        if dtype not in CODE_OF:
            raise TypeError(f"tensor {name!r} has dtype {dtype}, which safetensors lacks")
        codes[name] = CODE_OF[dtype]
        # Unlike ascontiguousarray, asarray keeps a 0-d array 0-d.
        ready[name] = np.asarray(array, dtype=little, order="C")
    layout = sorted(ready, key=lambda name: -ready[name].itemsize)
    begins, end = {}, 0
    for name in layout:
        begins[name] = end
        end += ready[name].nbytes
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    for name, array in ready.items():
        header[name] = {
            "dtype": codes[name],
            "shape": list(array.shape),
            "data_offsets": [begins[name], begins[name] + array.nbytes],
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ValueError(f"the header would take {len(text)} bytes; the limit is {MAX_HEADER}")
    length = len(text).to_bytes(LENGTH_BYTES, "little")
    return [length, text, *(ready[name].tobytes() for name in layout)]


def decode(entry: Entry, data: memoryview, source: str) -> np.ndarray:
    """The memory of one entry's array, as a read-only view of the file's data."""
    name, _, form = CODES[entry.code]
    if form is None:
        raise ValueError(
            f"{source}: tensor {entry.name!r} has dtype {name}, which adjoint does not have; "
            "convert it to float32 before saving"
        )
    part = data[entry.begin : entry.end]
    if entry.code == "BOOL":  # any other byte than 0 and 1 would not be a bool to NumPy or to us
        return (np.frombuffer(part, np.uint8) != 0).reshape(entry.shape)
    return np.frombuffer(part, dtype=form).reshape(entry.shape)
