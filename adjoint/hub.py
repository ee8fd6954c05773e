"""`torch.hub`: files with parameters, fetched once and kept.

Parameters are read in the safetensors format (`io.load_file`); a pickle, which may run anything, is not read.

>>> import adjoint as torch
>>> torch.hub.get_dir().endswith("hub")
True
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from typing import Any
from urllib.parse import urlparse
from urllib.request import Request, urlopen

__all__ = ["HASH_REGEX", "download_url_to_file", "get_dir", "load_state_dict_from_url", "set_dir", "urlparse"]

HASH_REGEX = re.compile(r"-([a-f0-9]*)\.")  # what follows the last dash of a file's name may be the beginning of its SHA-256
PIECE = 1 << 17  # bytes read at once

_dir: str | None = None


def _get_torch_home() -> str:
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return os.path.expanduser(os.environ.get("TORCH_HOME", os.path.join(caches, "torch")))


def get_dir() -> str:
    """The folder for fetched files: what `set_dir` said, else `hub` in $TORCH_HOME, in PyTorch's place if that is not set."""
    return _dir if _dir is not None else os.path.join(_get_torch_home(), "hub")


def set_dir(d: str | os.PathLike[str]) -> None:
    """Keep fetched files in another folder from now on."""
    global _dir
    _dir = os.path.expanduser(d)


def download_url_to_file(url: str, dst: str, hash_prefix: str | None = None, progress: bool = True) -> None:
    """Fetch a file. It is there as a whole, or not at all.

    hash_prefix: how the SHA-256 of its content begins; RuntimeError if it does not, and nothing is written.
    progress: whether a line on stderr says how far it is, if that is a terminal.
    """
    digest = hashlib.sha256()
    folder = os.path.dirname(os.path.abspath(os.path.expanduser(dst)))
    with urlopen(Request(url, headers={"User-Agent": "adjoint"})) as source:
        total, done = int(source.headers.get("Content-Length") or 0), 0
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as part:
            try:
                while piece := source.read(PIECE):
                    part.write(piece)
                    digest.update(piece)
                    done += len(piece)
                    if progress and total and sys.stderr.isatty():
                        print(f"\r{os.path.basename(dst)}: {100 * done // total} %", end="", file=sys.stderr, flush=True)
                if progress and total and sys.stderr.isatty():
                    print(file=sys.stderr)
                part.close()
                if hash_prefix is not None and not digest.hexdigest().startswith(hash_prefix):
                    raise RuntimeError(
                        f'invalid hash value (expected "{hash_prefix}", got "{digest.hexdigest()}"): {url} is another file than was asked for'
                    )
                os.replace(part.name, os.path.expanduser(dst))
            except BaseException:
                part.close()
                os.unlink(part.name)
                raise


def load_state_dict_from_url(
    url: str,
    model_dir: str | None = None,
    map_location: Any = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
    weights_only: bool = False,
) -> dict[str, Any]:
    """Parameters from a safetensors file, fetched unless it is in `model_dir` already (None: `checkpoints` in `get_dir()`).

    check_hash: the file's name has the beginning of its SHA-256 after the last dash, which is compared.  map_location: ignored,
    there is one device.  Raises what `io.load_file` raises for a file of another format.
    """
    from adjoint.io import load_file

    folder = os.path.join(get_dir(), "checkpoints") if model_dir is None else model_dir
    os.makedirs(folder, exist_ok=True)
    name = os.path.basename(urlparse(url).path) if file_name is None else file_name
    kept = os.path.join(folder, name)
    if not os.path.exists(kept):
        found = HASH_REGEX.search(name) if check_hash else None
        download_url_to_file(url, kept, found.group(1) if found else None, progress)
    return load_file(kept)
