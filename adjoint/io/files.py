"""`save` and `load`: objects to and from files, safely.

A flat dict of tensors (a model's `state_dict`) becomes a plain .safetensors file that any other
reader of the format understands. Anything nested stores its tensors the same way and its structure
as JSON in the header's metadata. Loading never runs code from the file. Read `save`, then `load`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import adjoint as torch
from adjoint import storage
from adjoint.io import safetensors, structure
from adjoint.trace.recorder import array_of, tensor_from_array

File = str | os.PathLike | BinaryIO
_STRUCTURE = "adjoint.structure"
_VERSION = "adjoint.structure_version"
_CHUNK = 1 << 24


def save(obj: Any, f: File, pickle_module: Any = None, pickle_protocol: int = 2) -> None:
    """Write tensors, or dicts, lists and tuples of tensors and plain Python values, to a file.

    obj: a tensor, a state dict of a module or optimizer, or any nesting of dict, list, tuple,
        tensor, int, float, str, bool and None. A tensor's values are stored, not its gradient or
        history.
    f: a path (replaced only once the new file is complete) or a binary file open for writing.
    pickle_module, pickle_protocol: accepted for PyTorch's sake; nothing is pickled.

    Raises TypeError, naming the place, for objects of any other class.

    >>> import adjoint as torch, io
    >>> file = io.BytesIO()
    >>> torch.save({"w": torch.arange(3.0), "step": 7}, file)
    >>> _ = file.seek(0)
    >>> torch.load(file)
    {'w': tensor([0., 1., 2.]), 'step': 7}
    """
    tensors, description = structure.flatten(obj)
    metadata = {"format": "pt"}
    if not _is_plain(obj):
        metadata[_VERSION] = structure.FORMAT
        metadata[_STRUCTURE] = json.dumps(description, ensure_ascii=False, allow_nan=False)
        _write(tensors, metadata, f)
    else:
        _write(obj, metadata, f)


def load(f: File, map_location: Any = None, *, weights_only: bool = True) -> Any:
    """Read what `save` wrote, or any .safetensors file (as a dict of tensors).

    f: a path or a binary file open for reading.
    map_location: accepted for PyTorch's sake; there is one device, the CPU.
    weights_only: must be True. A pickle can run any code while it is loaded, so none is ever read.

    Raises ValueError for a damaged file, a pickle, or a dtype that is not supported.

    >>> import io
    >>> import adjoint as torch
    >>> file = io.BytesIO()
    >>> torch.save({"w": torch.ones(2)}, file)
    >>> _ = file.seek(0)
    >>> torch.load(file)["w"]
    tensor([1., 1.])
    """
    if not weights_only:
        raise ValueError(
            "load(weights_only=False) would run code from the file; only safetensors files are read"
        )
    if map_location is not None and str(map_location).partition(":")[0] != "cpu":
        raise ValueError(f"load: map_location={map_location!r}, but the only device is 'cpu'")
    tensors, metadata, source = _read(f)
    if _STRUCTURE not in metadata:
        return tensors
    if metadata.get(_VERSION) != structure.FORMAT:
        raise ValueError(
            f"{source} uses version {metadata.get(_VERSION)!r} of the nested form; "
            f"this version of adjoint reads {structure.FORMAT!r}"
        )
    try:
        description = json.loads(metadata[_STRUCTURE])
        return structure.rebuild(description, tensors)
    except (ValueError, TypeError, RecursionError) as problem:
        raise ValueError(f"{source}: its structure cannot be read ({problem})") from None


def save_file(
    tensors: Mapping[str, Any], filename: File, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a flat mapping of names to tensors, with free metadata (safetensors' own name)."""
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise TypeError(
                f"save_file takes a mapping of str to Tensor, got {name!r}: {type(tensor).__name__}"
            )
    _write(tensors, dict(metadata or {}), filename)


def load_file(filename: File) -> dict[str, Any]:
    """Read a .safetensors file as a dict of tensors, in the order of its header."""
    return _read(filename)[0]


def _is_plain(obj: Any) -> bool:
    """Whether a flat file says everything: a dict (as a state dict is) of str to tensor of a dtype that the format has."""
    return (
        type(obj) in (dict, OrderedDict)
        and len(obj) > 0
        and "__metadata__" not in obj
        and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in obj.items())
        and all(v.dtype != torch.complex128 for v in obj.values())
    )


def _write(tensors: Mapping[str, Any], metadata: dict[str, str], f: File) -> None:
    arrays = {n: (t.dtype.name, storage.encode(array_of(t), t.dtype)) for n, t in tensors.items()}
    chunks = safetensors.encode(arrays, metadata)
    if not isinstance(f, (str, os.PathLike)):
        for chunk in chunks:
            f.write(chunk)
        return
    path = Path(f)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes the file private
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _read(f: File) -> tuple[dict[str, Any], dict[str, str], str]:
    if isinstance(f, (str, os.PathLike)):
        with open(f, "rb") as file:
            return _read_open(file, os.fspath(f))
    return _read_open(f, f"the file {getattr(f, 'name', None) or type(f).__name__}")


def _read_open(file: BinaryIO, source: str) -> tuple[dict[str, Any], dict[str, str], str]:
    left = _bytes_left(file)
    first = _take(file, safetensors.LENGTH_BYTES)
    _refuse_pickle(first, source)
    available = None if left is None else left - len(first)
    header = _take(file, safetensors.header_length(first, available, source))
    entries, metadata, size = safetensors.parse_header(header, source)
    held = None if available is None else available - len(header)
    if held is not None and held != size:
        raise _wrong_size(source, size, held)
    data = _take(file, size)
    if len(data) != size or file.read(1):
        raise _wrong_size(source, size, len(data) if len(data) < size else "more")
    view, tensors = memoryview(data), {}
    for entry in entries:
        array = safetensors.decode(entry, view, source)
        name = safetensors.CODES[entry.code][0]
        dtype = getattr(torch, name)
        # A copy in the engine's own aligned memory, in the machine's byte order.
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        tensors[entry.name] = tensor_from_array(storage.decode(native, dtype), dtype=dtype)
    return tensors, metadata, source


def _wrong_size(source: str, wanted: int, held: int | str) -> ValueError:
    return ValueError(
        f"{source} is not a valid safetensors file: its header accounts for {wanted} bytes "
        f"of data, but {held} follow; it was cut short or something was appended"
    )


def _refuse_pickle(first: bytes, source: str) -> None:
    # PyTorch writes a zip archive; before 1.6 a bare pickle, which starts with its protocol. Read
    # as a header's length either is enormous, which tells 80 02 apart from an honest header of 640
    # bytes.
    known = first[:4] == b"PK\x03\x04" or first[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04")
    if known and int.from_bytes(first, "little") > safetensors.MAX_HEADER:
        raise ValueError(
            f"{source} is a pickle (as torch.save of PyTorch writes), and loading a pickle can run "
            "any code in it, so adjoint never does. Convert it once where PyTorch is installed: "
            "from safetensors.torch import save_file; "
            "save_file(torch.load(path, weights_only=True), 'model.safetensors')"
        )


def _bytes_left(file: BinaryIO) -> int | None:
    """Bytes from the current position to the end, or None for a stream."""
    try:
        here = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(here)
        return end - here
    except (OSError, AttributeError):
        return None


def _take(file: BinaryIO, n: int) -> bytes:
    """Up to n bytes, read in pieces: a false length must not make us allocate."""
    pieces = []
    while n > 0:
        piece = file.read(min(n, _CHUNK))
        if not piece:
            break
        pieces.append(piece)
        n -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
