"""Machine code on disk, so that a new process need not compile what an earlier one did.

`load(key)` and `store(key, ...)` are all that `jit` and `plan_cache` need; `describe` and `clear` serve the command line. One
file for each module of code, or plan, named by its key: a digest of everything it depends on. A file is this, all of it or not used:

    8 bytes MAGIC, 32 bytes key, 32 bytes digest of the rest
    the rest: 4 bytes length of the names, names of the exported functions, object code

Object code is code: whoever can choose what is loaded here runs as the user. So a directory is used only if it belongs
to the user and nobody else may write to it, a file only if it is a plain file of which the same is true, reached without
following a link; both are asked of the open file and not of its name, so that nothing can be exchanged in between. That
keeps out other users of the machine, and files that a careless program or a hostile archive left group-writable. The
digest keeps out what is damaged, cut off or of another version. Neither keeps out somebody who can already write as the
user; such a person could as well change this module.

Nothing here is ever in the way. What cannot be read is compiled again and written anew; what cannot be written (no
home, a read-only or full disk, a quota) is left, and the process does not try again. Files appear complete, under a
temporary name first, so that any number of processes may share a directory. Files in use longest ago go first when the
directory grows over its bound.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from adjoint import config

__all__ = ["clear", "counters", "describe", "directory", "key_of", "load", "store"]

MAGIC = b"adjoint\x01"  # the last byte is the version of the format
_DIGEST_BYTES = 32
_HEADER_BYTES = len(MAGIC) + 2 * _DIGEST_BYTES
CODE, PLAN = ".code", ".plan"  # what a file holds, by the end of its name
_UNFINISHED = ".part"
_ABANDONED = 3600.0  # seconds after which nobody can still be writing an unfinished file
_FRESH = 3600.0  # seconds for which a file counts as just used, so that a hit seldom has to note it
_SLACK = 8  # eviction makes room for an eighth of the bound, not to be called at every write
MAX_FILES = 8192  # whatever their bytes: looking at many more would cost a new process a noticeable time

_CLOEXEC = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | _CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | _CLOEXEC
_BY_DESCRIPTOR = os.open in os.supports_dir_fd  # not on Windows, where names have to do


@dataclass(slots=True)
class Counters:
    """What this process found and left on disk: modules of code that were there or not, plans that were there, and bytes."""

    hits: int = 0
    misses: int = 0
    plans: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


counters = Counters()


class Refused(Exception):
    """The directory cannot be used; the message says why."""


@dataclass(slots=True)
class _Writing:
    """What this process knows of a directory that it writes to: bytes in it (None: not counted yet), bytes added since
    they were counted, and whether writing has failed."""

    total: int | None = None
    added: int = 0
    failed: bool = False


_writing: dict[str, _Writing] = {}
_said: set[str] = set()


def directory() -> str | None:
    """Where the files are: ADJOINT_CACHE_DIR, or `adjoint` in the place where the system keeps caches of a user. None
    where there is no such place.

    >>> import os
    >>> from adjoint.runtime import disk_cache
    >>> os.path.isabs(disk_cache.directory() or os.sep)
    True
    """
    chosen = config.get("ADJOINT_CACHE_DIR")
    if chosen:
        try:
            return os.path.abspath(os.path.expanduser(chosen))
        except FileNotFoundError:  # relative to a working directory that has been removed
            return None
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the specification says to ignore these
        home = os.path.expanduser("~")
        if sys.platform == "win32":
            base = os.environ.get("LOCALAPPDATA", "")
        elif sys.platform == "darwin":
            base = os.path.join(home, "Library", "Caches")
        else:
            base = os.path.join(home, ".cache")
    return os.path.join(base, "adjoint") if os.path.isabs(base) else None


def key_of(*parts: object) -> bytes:
    """The digest of everything that code depends on, each part as its text; the parts cannot run together."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        text = str(part).encode()
        digest.update(len(text).to_bytes(8, "little"))
        digest.update(text)
    return digest.digest()


def load(key: bytes, kind: str = CODE) -> tuple[list[str], bytes] | None:
    """Names of the exported functions and object code stored under `key`; None if there are none fit to be used.

    kind: CODE, or PLAN (`plan_cache`), which has no names."""
    if not config.get("ADJOINT_CACHE"):
        return None
    data = None
    try:
        with _opened(create=False) as folder:
            data = folder.read(key.hex() + kind, config.get("ADJOINT_CACHE_BYTES"))
    except Refused as problem:
        _say_once(str(problem))
        return None
    except OSError:
        pass  # not there, or not readable
    entry = None if data is None else _unpack(key, data)
    if data is None or entry is None:
        if kind == CODE:
            counters.misses += 1
        return None
    if kind == CODE:
        counters.hits += 1
    else:
        counters.plans += 1
    counters.bytes_read += len(data)
    return entry


def store(key: bytes, names: Sequence[str], code: bytes, kind: str = CODE) -> None:
    """Leave code for later processes. Never raises for what the disk does."""
    bound = config.get("ADJOINT_CACHE_BYTES")
    data = _pack(key, names, code)
    if not config.get("ADJOINT_CACHE") or len(data) > bound:
        return
    writing = _writing.setdefault(directory() or "", _Writing())
    if writing.failed:
        return
    name = key.hex() + kind
    try:
        with _opened(create=True) as folder:
            folder.write(name, data)
            counters.bytes_written += len(data)
            _keep_within(bound, folder, writing, name, len(data))
    except (Refused, OSError) as problem:
        # A disk that is full or cannot be written to will not be otherwise for the next kernel; a file that is gone
        # was cleared away by somebody.
        writing.failed = not isinstance(problem, FileNotFoundError)
        _say_once(str(problem))


def describe() -> dict[str, Any]:
    """The state of the cache: directory, on or why not, entries, their bytes, the bound. Creates nothing.

    >>> from adjoint.runtime import disk_cache
    >>> sorted(disk_cache.describe())
    ['bound', 'bytes', 'directory', 'entries', 'state']
    """
    state, files = "on", []
    try:
        with _opened(create=False) as folder:
            files = folder.files()
            if not os.access(folder.path, os.W_OK):
                state = "on, read only"
    except FileNotFoundError:
        pass  # the first program will create it
    except (Refused, OSError) as problem:
        state = f"off: {problem}"
    if not config.get("ADJOINT_CACHE"):
        state = "off: ADJOINT_CACHE=0"
    return {
        "directory": directory(),
        "state": state,
        "entries": sum(f.name.endswith((CODE, PLAN)) for f in files),
        "bytes": sum(f.size for f in files),
        "bound": config.get("ADJOINT_CACHE_BYTES"),
    }


def clear() -> tuple[int, int]:
    """Remove what this module has written, and nothing else: (files, bytes). Refused or OSError where it may not."""
    count = size = 0
    with suppress(FileNotFoundError), _opened(create=False) as folder:
        for file in folder.files():
            with suppress(FileNotFoundError):
                folder.remove(file.name)
                count, size = count + 1, size + file.size
    _writing.clear()
    return count, size


# --- the directory and its files -----------------------------------------------------------------


class _File(NamedTuple):
    used: float  # seconds, when it was written or last noted as used
    size: int
    name: str


class _Folder:
    """An open directory that passed the checks. Files are reached through its descriptor where the system can, so that
    they are in the directory that was checked."""

    def __init__(self, path: str, descriptor: int | None) -> None:
        self.path, self._descriptor = path, descriptor

    def _at(self, name: str) -> tuple[str, int | None]:
        if self._descriptor is None:
            return os.path.join(self.path, name), None
        return name, self._descriptor

    def read(self, name: str, most: int) -> bytes | None:
        """The file's bytes, if it is one of the user's alone. OSError if it cannot be opened (a link cannot)."""
        path, at = self._at(name)
        descriptor = os.open(path, _READ, dir_fd=at)
        with open(descriptor, "rb", buffering=0) as file:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode) or _not_private(info) or info.st_size > most:
                return None
            data = file.readall()
            if time.time() - info.st_mtime > _FRESH:
                with suppress(OSError):
                    os.utime(descriptor if os.utime in os.supports_fd else path)
        return data

    def write(self, name: str, data: bytes) -> None:
        """Put a file there, complete or not at all."""
        unfinished, at = self._at(f"{os.getpid()}-{os.urandom(8).hex()}{_UNFINISHED}")
        descriptor = os.open(unfinished, _CREATE, 0o600, dir_fd=at)
        try:
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            finally:
                os.close(descriptor)
            os.replace(unfinished, self._at(name)[0], src_dir_fd=at, dst_dir_fd=at)
        except BaseException:
            with suppress(OSError):
                os.unlink(unfinished, dir_fd=at)
            raise

    def remove(self, name: str) -> None:
        path, at = self._at(name)
        os.unlink(path, dir_fd=at)

    def files(self) -> list[_File]:
        """Every file that this module wrote, unfinished ones included."""
        found = []
        with os.scandir(self.path if self._descriptor is None else self._descriptor) as entries:
            for entry in entries:
                if _is_ours(entry.name):
                    with suppress(OSError):  # gone since
                        info = entry.stat(follow_symlinks=False)
                        found.append(_File(info.st_mtime, info.st_size, entry.name))
        return found


@contextmanager
def _opened(create: bool) -> Iterator[_Folder]:
    """The directory, if it may be trusted; Refused if not, OSError if it is not there."""
    path = directory()
    if path is None:
        raise Refused("there is no home directory (ADJOINT_CACHE_DIR can name another place)")
    if create:
        os.makedirs(path, 0o700, exist_ok=True)
    link = os.lstat(path)
    if stat.S_ISLNK(link.st_mode) and not _is_users(link):
        raise Refused(f"{path} is somebody else's link")
    if not _BY_DESCRIPTOR:
        _check(path, os.stat(path))
        yield _Folder(path, None)
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _CLOEXEC)
    try:
        _check(path, os.fstat(descriptor))
        yield _Folder(path, descriptor)
    finally:
        os.close(descriptor)


def _check(path: str, info: os.stat_result) -> None:
    if not stat.S_ISDIR(info.st_mode):
        raise Refused(f"{path} is not a directory")
    if not _is_users(info):
        raise Refused(f"{path} belongs to somebody else")
    if _not_private(info):
        mode = stat.S_IMODE(info.st_mode)
        raise Refused(f"others may write to {path} (mode {mode:o}): chmod go-w makes it usable")


def _is_users(info: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or info.st_uid == os.geteuid()


def _not_private(info: os.stat_result) -> bool:
    """Whether somebody else could have written it. Windows has no such bits; a user's own folder is private there."""
    return hasattr(os, "geteuid") and (not _is_users(info) or bool(info.st_mode & 0o022))


def _is_ours(name: str) -> bool:
    stem, suffix = os.path.splitext(name)
    if suffix in (CODE, PLAN):
        return len(stem) == 2 * _DIGEST_BYTES and set(stem) <= set("0123456789abcdef")
    process, _, rest = stem.partition("-")
    return suffix == _UNFINISHED and process.isdigit() and len(rest) == 16


# --- the contents of a file ----------------------------------------------------------------------


def _pack(key: bytes, names: Sequence[str], code: bytes) -> bytes:
    joined = "\n".join(names).encode()
    rest = len(joined).to_bytes(4, "little") + joined + code
    return b"".join((MAGIC, key, _content_digest(key, rest), rest))


def _unpack(key: bytes, data: bytes) -> tuple[list[str], bytes] | None:
    head, rest = data[:_HEADER_BYTES], memoryview(data)[_HEADER_BYTES:]
    if len(data) < _HEADER_BYTES + 4 or head != MAGIC + key + _content_digest(key, rest):
        return None
    end = 4 + int.from_bytes(rest[:4], "little")
    return bytes(rest[4:end]).decode().split("\n"), bytes(rest[end:])


def _content_digest(key: bytes, rest: bytes | memoryview) -> bytes:
    return hashlib.blake2b(rest, digest_size=_DIGEST_BYTES, key=key).digest()


# --- the bound -----------------------------------------------------------------------------------


def _keep_within(bound: int, folder: _Folder, writing: _Writing, name: str, size: int) -> None:
    """Remove what was used longest ago until the files fit, but never `name`, which was just written.

    Looking at a full directory takes tens of milliseconds (with more than `MAX_FILES` it would take longer), so files are counted at a process's first write and when it
    has added a share of the bound since; in between its own writes are added up. Several processes that write at the
    same time can exceed the bound by that share each, until the next looks.
    """
    writing.added += size
    if writing.total is not None:
        writing.total += size
        if writing.total <= bound and writing.added <= bound // (4 * _SLACK):
            return
    now = time.time()
    files = folder.files()
    total, count = sum(f.size for f in files), len(files)
    goal = bound - bound // _SLACK if total > bound else bound
    most = MAX_FILES - MAX_FILES // _SLACK if count > MAX_FILES else MAX_FILES
    for file in sorted(files, key=lambda f: f.used):
        if file.name.endswith(_UNFINISHED):
            unwanted = now - file.used > _ABANDONED
        else:
            unwanted = (total > goal or count > most) and file.name != name
        if unwanted:
            with suppress(FileNotFoundError):  # another process had the same thought
                folder.remove(file.name)
            total -= file.size
            count -= 1
    writing.total, writing.added = total, 0


def _say_once(reason: str) -> None:
    """A line for those who look at what is compiled."""
    if config.get("ADJOINT_DEBUG") >= 1 and reason not in _said:
        _said.add(reason)
        print(f"no machine code is kept on disk: {reason}", file=sys.stderr)
