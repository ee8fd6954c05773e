"""Machine code on disk: found by the next process, never trusted when it should not be, never in the way."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import itertools
import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from adjoint import cli
from adjoint.runtime import disk_cache, jit

pytestmark = pytest.mark.any_mode

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners and modes")
needs_llvm = pytest.mark.skipif(not jit.available(), reason="needs llvmlite")
KEY = disk_cache.key_of("a key")
NAMES, CODE = ["first", "second"], bytes(range(256)) * 8


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A cache directory of the test's own, not there yet."""
    path = tmp_path / "code"
    monkeypatch.setenv("ADJOINT_CACHE_DIR", str(path))
    monkeypatch.delenv("ADJOINT_CACHE", raising=False)
    monkeypatch.delenv("ADJOINT_CACHE_BYTES", raising=False)
    return path


def put(number: int = 0, size: int = 2048) -> Path:
    """Store an entry; where it lies."""
    key = disk_cache.key_of(number)
    disk_cache.store(key, ["f"], bytes(size))
    return Path(str(disk_cache.directory())) / f"{key.hex()}.code"


_values = itertools.count(1000)


def source() -> tuple[str, float]:
    """IR that no other test compiles, of a function that adds a number; the number."""
    value = float(next(_values))
    return f"define double @add(double %x) {{\n  %y = fadd double %x, {value}\n  ret double %y\n}}", value


def compiles(text: str, value: float) -> bool:
    """Get a module, check that it works, and say whether it had to be compiled."""
    module = jit.compile_module(text)
    function = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(module.address("add"))
    assert function(0.5) == 0.5 + value
    return module.compiled


def only(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


# --- what it is for --------------------------------------------------------------------------------

STEP = """
import json, sys, numpy as np, adjoint as torch
from adjoint.runtime import jit
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(40, 30), torch.nn.LayerNorm(30), torch.nn.GELU(), torch.nn.Linear(30, 5))
opt = torch.optim.Adam(net.parameters())
x, y = torch.randn(16, 40), torch.arange(16) % 5
for _ in range(2):
    opt.zero_grad()
    loss = torch.nn.functional.cross_entropy(net(x), y)
    loss.backward()
    opt.step()
print(json.dumps({"loss": loss.item().hex(), "weight": net[0].weight.sum().item().hex(),
                  "compiled": jit.counters.kernels_compiled, "loaded": jit.counters.kernels_loaded,
                  "kernels": torch.stats()["kernels"], **torch.stats()["cache"]}))
"""


def environment(folder: Path, **settings: str) -> dict[str, str]:
    return {**os.environ, "ADJOINT_EAGER": "0", "ADJOINT_CACHE": "1", "ADJOINT_CACHE_DIR": str(folder), **settings}


def train(folder: Path, **settings: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", STEP],
        env=environment(folder, **settings),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "stderr": done.stderr}


@needs_llvm
def test_a_second_process_compiles_nothing(folder) -> None:
    first = train(folder, PYTHONHASHSEED="1")
    assert first["compiled"] > 5 and first["misses"] > 2 and first["hits"] == first["loaded"] == 0
    second = train(folder, PYTHONHASHSEED="2")
    assert second["compiled"] == second["misses"] == second["bytes_written"] == 0
    assert second["loaded"] == second["kernels"] == first["kernels"] and second["hits"] == first["misses"]
    assert second["bytes_read"] == first["bytes_written"] == sum(f.stat().st_size for f in folder.iterdir())
    assert (second["loss"], second["weight"]) == (first["loss"], first["weight"])


@needs_llvm
def test_another_target_shares_nothing(folder) -> None:
    if not jit.target().triple.startswith("x86_64"):
        pytest.skip("needs x86-64")
    train(folder)
    narrow = train(folder, ADJOINT_TARGET="sse2")
    assert narrow["hits"] == 0 and narrow["compiled"] == narrow["kernels"]


@needs_llvm
@pytest.mark.parametrize("field", ["cpu", "features", "vector_bytes", "triple"])
def test_a_machine_that_differs_in_anything_shares_nothing(field, folder, monkeypatch) -> None:
    """A home directory may serve many machines, of which each compiles for its own processor."""
    describe = jit._describe_machine

    def another(llvm):
        target, create = describe(llvm)
        value = getattr(target, field)
        return dataclasses.replace(target, **{field: value * 2 if field == "vector_bytes" else value + "x"}), create

    text, value = source()
    assert compiles(text, value) and not compiles(text, value)
    monkeypatch.setattr(jit, "_engine", None)
    monkeypatch.setattr(jit, "_describe_machine", another)
    assert compiles(text, value) and not compiles(text, value)


@needs_llvm
def test_switched_off(folder) -> None:
    off = train(folder, ADJOINT_CACHE="0")
    assert off["hits"] == off["misses"] == off["bytes_written"] == 0 and off["compiled"] == off["kernels"] > 0
    assert not folder.exists()


@needs_llvm
def test_level_and_text_are_in_the_key(folder) -> None:
    text, value = source()
    assert compiles(text, value) and not compiles(text, value)
    assert jit.compile_module(text, level=0).compiled
    assert jit.compile_module(text + "\n; another text").compiled


def test_keys_do_not_run_together() -> None:
    keys = {disk_cache.key_of(*parts) for parts in [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("ab", "c", 0)]}
    assert len(keys) == 5 and disk_cache.key_of("ab", "c") in keys


# --- what is not used, and mended ---------------------------------------------------------------------


def flip(position: int):
    def damage(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[position] ^= 1
        return bytes(changed)

    return damage


HEAD = len(disk_cache.MAGIC)
DAMAGE = {
    "magic": flip(0),
    "version": flip(HEAD - 1),
    "key": flip(HEAD + 5),
    "digest": flip(HEAD + 32 + 5),
    "length": flip(HEAD + 64),
    "name": flip(HEAD + 64 + 4),
    "code begins": flip(HEAD + 64 + 4 + 3),
    "code ends": flip(-1),
    "zeros": lambda data: bytes(len(data)),
    "longer": lambda data: data + b"\0",
    "empty": lambda data: b"",
    "cut in the magic": lambda data: data[:3],
    "cut in the key": lambda data: data[: HEAD + 10],
    "cut in the digest": lambda data: data[: HEAD + 40],
    "cut before the length": lambda data: data[: HEAD + 64],
    "cut in the length": lambda data: data[: HEAD + 66],
    "cut in the code": lambda data: data[: len(data) // 2],
    "cut at the end": lambda data: data[:-1],
}


@needs_llvm
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_seen_and_mended(damage, folder) -> None:
    text, value = source()
    assert compiles(text, value)
    file = only(folder)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert file.read_bytes() != whole
    assert compiles(text, value)
    assert only(folder) == file and file.read_bytes() == whole
    assert not compiles(text, value)


def test_every_flipped_bit_is_seen(folder) -> None:
    disk_cache.store(KEY, NAMES, CODE)
    assert disk_cache.load(KEY) == (NAMES, CODE)
    file = only(folder)
    whole = file.read_bytes()
    for position in range(0, len(whole), 7):
        file.write_bytes(flip(position)(whole))
        assert disk_cache.load(KEY) is None, position
    for length in range(0, len(whole), 11):
        file.write_bytes(whole[:length])
        assert disk_cache.load(KEY) is None, length


def test_the_file_of_another_key_is_not_used(folder) -> None:
    one, other = put(1), put(2)
    other.write_bytes(one.read_bytes())
    assert disk_cache.load(disk_cache.key_of(2)) is None
    assert disk_cache.load(disk_cache.key_of(1)) is not None


@needs_llvm
def test_code_that_llvm_will_not_load_is_compiled(folder) -> None:
    """Whole and with the right digest, as if a fault had written it."""
    text, value = source()
    assert compiles(text, value)
    key = bytes.fromhex(only(folder).stem)
    (names, code) = disk_cache.load(key)
    disk_cache.store(key, names, b"not an object file")
    assert compiles(text, value)
    assert disk_cache.load(key) == (names, code)


@posix
@needs_llvm
@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_a_file_that_others_may_write_is_not_used(mode, folder) -> None:
    text, value = source()
    assert compiles(text, value)
    file = only(folder)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(mode)
    assert compiles(text, value)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not compiles(text, value)


@posix
@needs_llvm
def test_a_link_is_not_followed_and_its_target_left_alone(folder, tmp_path) -> None:
    text, value = source()
    assert compiles(text, value)
    file = only(folder)
    elsewhere = tmp_path / "elsewhere"
    file.rename(elsewhere)
    whole = elsewhere.read_bytes()
    file.symlink_to(elsewhere)
    assert compiles(text, value)
    assert not file.is_symlink() and elsewhere.read_bytes() == whole
    assert not compiles(text, value)


@posix
def test_what_is_no_file_is_not_waited_for(folder) -> None:
    file = put()
    file.unlink()
    os.mkfifo(file)
    assert disk_cache.load(disk_cache.key_of(0)) is None
    file.unlink()
    file.mkdir()
    assert disk_cache.load(disk_cache.key_of(0)) is None
    put()  # cannot take a directory's place
    assert [p.name for p in folder.iterdir()] == [file.name]


@posix
@needs_llvm
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_directory_that_others_may_write_is_not_used(mode, folder, monkeypatch, capsys) -> None:
    monkeypatch.setenv("ADJOINT_DEBUG", "1")
    text, value = source()
    assert compiles(text, value)
    folder.chmod(mode)
    found = disk_cache.counters.hits
    assert compiles(text, value) and compiles(text, value)
    assert disk_cache.counters.hits == found and len(list(folder.iterdir())) == 1
    complaint = capsys.readouterr().err
    assert complaint.count("others may write") == 1 and str(folder) in complaint
    assert disk_cache.describe()["state"].startswith("off: others may write")


def test_a_new_directory_is_private(folder) -> None:
    put()
    if hasattr(os, "geteuid"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [f.name for f in folder.iterdir() if not f.name.endswith(".code")] == []


@posix
def test_a_directory_of_somebody_else_is_not_used(folder, monkeypatch) -> None:
    put()
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert disk_cache.load(disk_cache.key_of(0)) is None
    assert "somebody else" in disk_cache.describe()["state"]
    put(1)
    monkeypatch.undo()
    assert len(list(folder.iterdir())) == 1


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_a_file_or_a_link_of_somebody_else_is_not_used(folder, tmp_path, monkeypatch) -> None:
    file = put()
    os.chown(file, 65534, 65534)
    assert disk_cache.load(disk_cache.key_of(0)) is None
    put()
    assert disk_cache.load(disk_cache.key_of(0)) is not None
    link = tmp_path / "link"
    link.symlink_to(folder)
    os.lchown(link, 65534, 65534)
    monkeypatch.setenv("ADJOINT_CACHE_DIR", str(link))
    assert disk_cache.load(disk_cache.key_of(0)) is None
    assert "somebody else's link" in disk_cache.describe()["state"]


@posix
def test_the_users_own_link_to_a_directory_is_followed(folder, tmp_path, monkeypatch) -> None:
    put()
    link = tmp_path / "link"
    link.symlink_to(folder)
    monkeypatch.setenv("ADJOINT_CACHE_DIR", str(link))
    assert disk_cache.load(disk_cache.key_of(0)) is not None


# --- what is never in the way -------------------------------------------------------------------------


@needs_llvm
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk(number, folder, monkeypatch) -> None:
    attempts = []

    def write(descriptor: int, data: object) -> int:
        attempts.append(descriptor)
        if len(attempts) == 1:
            return 10  # as much as fitted
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", write)
    text, value = source()
    assert compiles(text, value) and compiles(text, value)
    assert len(attempts) == 2, "tried again after the disk was full"
    assert list(folder.iterdir()) == []


@posix
@needs_llvm
def test_a_limit_on_files(folder) -> None:
    """The kernel cuts the write short, as a full disk does."""
    code = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n" + STEP
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(folder), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["compiled"] > 5
    assert all(f.stat().st_size <= 1000 and f.suffix == ".code" for f in folder.iterdir())
    assert train(folder)["loss"] == json.loads(done.stdout)["loss"]


@posix
@needs_llvm
def test_a_read_only_directory_is_read(folder, monkeypatch) -> None:
    text, value = source()
    assert compiles(text, value)
    os.utime(only(folder), (1, 1))  # long unused, so that a hit wants to note it
    folder.chmod(0o500)
    if os.geteuid() == 0:  # whom modes do not stop

        def refuse(*arguments: object, **named: object) -> None:
            raise PermissionError(errno.EACCES, "read-only")

        monkeypatch.setattr(os, "utime", refuse)
        opened = os.open
        monkeypatch.setattr(os, "open", lambda p, f, *m, **k: refuse() if f & os.O_CREAT else opened(p, f, *m, **k))
        monkeypatch.setattr(os, "access", lambda *a: False)
    assert not compiles(text, value)
    other, value = source()
    assert compiles(other, value) and compiles(other, value)
    assert disk_cache.describe()["state"] == "on, read only"
    folder.chmod(0o700)
    assert len(list(folder.iterdir())) == 1


@needs_llvm
def test_a_place_where_no_directory_can_be(tmp_path, monkeypatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for place in (file, file / "below"):
        monkeypatch.setenv("ADJOINT_CACHE_DIR", str(place))
        text, value = source()
        assert compiles(text, value) and compiles(text, value)
        assert disk_cache.describe()["state"].startswith("off: ")
    assert file.read_text() == ""


@needs_llvm
def test_no_home(monkeypatch) -> None:
    for name in ("ADJOINT_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does for a user without one
    assert disk_cache.directory() is None
    text, value = source()
    assert compiles(text, value) and compiles(text, value)
    facts = disk_cache.describe()
    assert facts["directory"] is None and "ADJOINT_CACHE_DIR" in facts["state"]


@posix
@needs_llvm
def test_a_working_directory_that_is_gone(tmp_path, monkeypatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.setenv("ADJOINT_CACHE_DIR", "below")
    monkeypatch.chdir(gone)
    gone.rmdir()
    text, value = source()
    assert compiles(text, value) and compiles(text, value)


def test_where_it_is(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("ADJOINT_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/paths/count/as/absent")
    expected = {"win32": tmp_path / "local", "darwin": tmp_path / "Library" / "Caches"}
    base = expected.get(sys.platform, tmp_path / ".cache")
    assert disk_cache.directory() == str(base / "adjoint")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert disk_cache.directory() == str(tmp_path / "xdg" / "adjoint")
    monkeypatch.setenv("ADJOINT_CACHE_DIR", str(tmp_path / "chosen"))
    assert disk_cache.directory() == str(tmp_path / "chosen")


def test_a_write_that_is_interrupted_leaves_nothing(folder, monkeypatch) -> None:
    put(1)

    def interrupt(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        put(2)
    monkeypatch.undo()
    assert len(list(folder.iterdir())) == 1


@needs_llvm
def test_eight_processes_at_once(folder) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", STEP],
            env=environment(folder, ADJOINT_NUM_THREADS="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    outputs = [child.communicate(timeout=300) for child in children]
    assert [child.returncode for child in children] == [0] * 8, outputs
    results = [json.loads(out) for out, _ in outputs]
    assert len({(r["loss"], r["weight"]) for r in results}) == 1
    assert {f.suffix for f in folder.iterdir()} == {".code", ".plan"}
    assert train(folder)["compiled"] == 0


# --- the bound ----------------------------------------------------------------------------------------


def total(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.iterdir())


def test_the_bound_is_kept_and_the_newest_stay(folder, monkeypatch) -> None:
    monkeypatch.setenv("ADJOINT_CACHE_BYTES", "20000")
    for number in range(40):
        file = put(number)
        os.utime(file, (number + 1, number + 1))  # one after the other, all of them long ago
        assert total(folder) <= 20000
    kept = [n for n in range(40) if disk_cache.load(disk_cache.key_of(n)) is not None]
    assert 6 <= len(kept) <= 9 and kept == list(range(40 - len(kept), 40))


def test_the_number_of_files_is_bounded(folder, monkeypatch) -> None:
    monkeypatch.setattr(disk_cache, "MAX_FILES", 16)
    for number in range(40):
        disk_cache._writing.clear()  # as in a new process, which looks
        file = put(number)
        os.utime(file, (number + 1, number + 1))
        assert len(list(folder.iterdir())) <= 16
    kept = [n for n in range(40) if disk_cache.load(disk_cache.key_of(n)) is not None]
    assert kept == list(range(40 - len(kept), 40)) and len(kept) >= 14


def test_what_was_used_stays(folder, monkeypatch) -> None:
    files = [put(number) for number in range(6)]
    for age, file in enumerate(files):
        os.utime(file, (1000 + age, 1000 + age))
    assert disk_cache.load(disk_cache.key_of(0)) is not None  # the oldest, and now the newest
    assert time.time() - files[0].stat().st_mtime < 100
    monkeypatch.setenv("ADJOINT_CACHE_BYTES", str(4 * files[0].stat().st_size))
    monkeypatch.setattr(disk_cache, "_writing", {})  # a new process
    newest = put(6)
    assert set(folder.iterdir()) <= {files[0], *files[4:], newest}
    assert files[0].exists() and newest.exists() and total(folder) <= 4 * newest.stat().st_size


def test_what_was_just_written_stays_where_clocks_differ(folder, monkeypatch) -> None:
    ahead = time.time() + 1e6
    for number in range(4):
        os.utime(put(number), (ahead, ahead))
    monkeypatch.setenv("ADJOINT_CACHE_BYTES", "5000")
    monkeypatch.setattr(disk_cache, "_writing", {})
    last = put(4)
    assert last.exists() and total(folder) <= 5000


def test_a_hit_seldom_writes(folder) -> None:
    file = put()
    noted = time.time() - 100
    os.utime(file, (noted, noted))
    assert disk_cache.load(disk_cache.key_of(0)) is not None
    assert abs(file.stat().st_mtime - noted) < 1


def test_what_does_not_fit_is_not_written(folder, monkeypatch) -> None:
    kept = put(1)
    monkeypatch.setenv("ADJOINT_CACHE_BYTES", "5000")
    put(2, size=6000)
    assert list(folder.iterdir()) == [kept]
    monkeypatch.setenv("ADJOINT_CACHE_BYTES", "0")
    put(3)
    assert list(folder.iterdir()) == [kept]


def test_only_files_of_its_own_are_removed(folder, monkeypatch) -> None:
    put(0)
    foreign = [folder / name for name in ("notes.txt", "x.code", "f" * 63 + "g.code", "12-34.part")]
    for file in foreign:
        file.write_bytes(bytes(3000))
        os.utime(file, (1, 1))
    fresh, abandoned = (folder / f"{n}-{'0' * 16}.part" for n in (1, 2))
    for file in (fresh, abandoned):
        file.write_bytes(bytes(10))
    os.utime(abandoned, (1, 1))
    monkeypatch.setenv("ADJOINT_CACHE_BYTES", "4500")
    monkeypatch.setattr(disk_cache, "_writing", {})
    last = put(1)
    put(2)
    assert not abandoned.exists() and fresh.exists() and not last.exists()
    assert disk_cache.clear()[0] == 2
    assert sorted(folder.iterdir()) == sorted(foreign)


def test_writers_that_evict_at_the_same_time(folder, monkeypatch) -> None:
    monkeypatch.setenv("ADJOINT_CACHE_BYTES", "30000")
    code = (
        "import sys\nfrom adjoint.runtime import disk_cache as d\n"
        "for n in range(150):\n    d.store(d.key_of(sys.argv[1], n), ['f'], bytes(2000))\n"
        "    assert d.load(d.key_of(sys.argv[1], n)) in (None, (['f'], bytes(2000)))\n"
        "assert not any(w.failed for w in d._writing.values())"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(i)], env=dict(os.environ), stderr=subprocess.PIPE, text=True)
        for i in range(4)
    ]
    for child in children:
        assert child.communicate(timeout=120)[1] == "" and child.returncode == 0
    last = put(-1)
    assert last.exists() and 10000 < total(folder) <= 30000


def test_threads_share_it(folder) -> None:
    wrong: list[int] = []

    def work(thread: int) -> None:
        for n in range(50):
            put(n)
            if disk_cache.load(disk_cache.key_of(n)) != (["f"], bytes(2048)):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and len(list(folder.iterdir())) == 50


# --- the command line ---------------------------------------------------------------------------------


def test_the_command_shows_and_clears(folder, capsys) -> None:
    assert cli.main(["cache"]) == 0
    assert str(folder) in capsys.readouterr().out and not folder.exists()
    size = sum(put(n).stat().st_size for n in range(3))
    (folder / "notes.txt").write_text("mine")
    assert cli.main(["cache", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == {
        "directory": str(folder),
        "state": "on",
        "entries": 3,
        "bytes": size,
        "bound": 256 << 20,
    }
    assert cli.main(["cache"]) == 0
    text = capsys.readouterr().out
    assert "state      on" in text and f"{size:,} of at most 268,435,456" in text
    assert cli.main(["cache", "--clear"]) == 0
    assert "removed 3 entries" in capsys.readouterr().out
    assert [f.name for f in folder.iterdir()] == ["notes.txt"]
    assert cli.main(["cache", "--clear", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed_entries"] == 0


def test_the_command_says_why_it_is_off(folder, capsys, monkeypatch) -> None:
    put()
    monkeypatch.setenv("ADJOINT_CACHE", "0")
    assert cli.main(["cache"]) == 0
    assert "off: ADJOINT_CACHE=0" in capsys.readouterr().out
    monkeypatch.delenv("ADJOINT_CACHE")
    if hasattr(os, "geteuid"):
        folder.chmod(0o777)
        assert cli.main(["cache"]) == 0
        assert "chmod go-w" in capsys.readouterr().out
        assert cli.main(["cache", "--clear"]) == 1
        assert "nothing removed" in capsys.readouterr().err
        assert len(list(folder.iterdir())) == 1
