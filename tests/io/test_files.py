"""Saving and loading: round trips, malformed files one by one, interoperability, refusals."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

import adjoint as torch
from adjoint.io import load, load_file, safetensors, save, save_file

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64"]
SHAPES = [(), (0,), (1,), (3, 0, 2), (7,), (2, 3, 5)]


def same(a, b) -> bool:
    """Equal in kind and value, all the way down; NaN equals NaN."""
    if isinstance(a, torch.Tensor):
        return (
            isinstance(b, torch.Tensor)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and np.array_equal(a.detach().numpy(), b.detach().numpy())
        )
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def round_trip(obj):
    file = io.BytesIO()
    save(obj, file)
    file.seek(0)
    return load(file)


def container(fields: dict | str | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A file put together by hand, so that it can be wrong in one chosen way."""
    text = json.dumps(fields) if isinstance(fields, dict) else fields
    raw = text if isinstance(text, bytes) else text.encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


def entry(begin: int, end: int, shape: list, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_shape(dtype, shape):
    rng = np.random.default_rng(0)
    array = np.asarray(rng.normal(size=shape) * 50).astype(dtype)
    t = torch.tensor(array)
    assert same(round_trip({"t": t}), {"t": t})
    assert same(round_trip(t), t)


def test_extreme_values_keep_their_bits():
    t = torch.tensor(
        [math.inf, -math.inf, math.nan, -0.0, 5e-324, 1.7976931348623157e308], dtype=torch.float64
    )
    got = round_trip({"t": t})["t"]
    assert got.numpy().tobytes() == t.numpy().tobytes()


def test_views_are_stored_by_value():
    t = torch.arange(12.0).reshape(3, 4)
    assert same(round_trip({"t": t.T, "s": t[1:, ::2]}), {"t": t.T, "s": t[1:, ::2]})


NESTED = {
    "plain values": {"a": None, "b": True, "c": -3, "d": 2.5, "e": "né", "f": 10**30},
    "non-finite": [math.inf, -math.inf, math.nan],
    "awkward floats": (0.1, 1e-310, -0.0),
    "keys": {1: "int", False: 1, 2.5: "float", None: 0, "1": "str", (1, "a"): "tuple"},
    "ordered": OrderedDict([("z", 1), ("a", OrderedDict())]),
    "empties": [[], (), {}, ""],
    "deep": [[[[{"x": (1, [2])}]]]],
    "top-level number": 3,
}


@pytest.mark.parametrize("obj", NESTED.values(), ids=NESTED.keys())
def test_nested_values(obj):
    assert same(round_trip(obj), obj)


def test_nested_tensors_and_names_that_collide():
    t, u = torch.arange(3), torch.ones(2)
    obj = {
        "a.b": t,
        "a": {"b": u},
        "__metadata__": t + 1,
        "l": [t, (u, None)],
        "dtype": torch.float32,
    }
    got = round_trip(obj)
    assert got.pop("dtype") is torch.float32
    obj.pop("dtype")
    assert same(got, obj)


def test_an_optimizer_continues_as_if_never_stopped(tmp_path):
    def fresh():
        torch.manual_seed(0)
        net = torch.nn.Linear(3, 2)
        return net, torch.optim.Adam(net.parameters(), lr=0.1)

    def step(net, opt, n):
        for _ in range(n):
            opt.zero_grad()
            (net(torch.ones(4, 3)) ** 2).sum().backward()
            opt.step()

    net, opt = fresh()
    step(net, opt, 3)
    save({"net": net.state_dict(), "opt": opt.state_dict(), "step": 3}, tmp_path / "c.safetensors")
    step(net, opt, 2)
    kept = load(tmp_path / "c.safetensors")
    other, opt2 = fresh()
    other.load_state_dict(kept["net"])
    opt2.load_state_dict(kept["opt"])
    step(other, opt2, 2)
    assert kept["step"] == 3
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert same(a.detach(), b.detach())


def test_paths_streams_and_order(tmp_path):
    obj = {"b": torch.ones(2), "a": torch.zeros(1, dtype=torch.float64), "c": torch.tensor(True)}
    for place in (tmp_path / "x.safetensors", str(tmp_path / "y.safetensors")):
        save(obj, place)
        got = load(place, map_location="cpu", weights_only=True)
        assert list(got) == ["b", "a", "c"] and same(got, obj)
    raw = (tmp_path / "x.safetensors").read_bytes()

    class OneWay(io.RawIOBase):  # like a socket: no seeking, few bytes at a time
        def __init__(self):
            self.rest = raw

        def readable(self):
            return True

        def readinto(self, buffer):
            n = min(len(buffer), 5, len(self.rest))
            buffer[:n], self.rest = self.rest[:n], self.rest[n:]
            return n

    assert same(load(OneWay()), obj)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["x.safetensors", "y.safetensors"]


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "m.safetensors"
    save({"w": torch.ones(2)}, path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save({"w": torch.ones(3), "f": print}, path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["m.safetensors"]


def test_saving_does_not_disturb_the_tensor():
    t = torch.ones(3, requires_grad=True)
    got = round_trip({"t": t})["t"]
    got.add_(1)
    assert t.requires_grad and t.tolist() == [1, 1, 1] and not got.requires_grad


F4 = b"\0" * 4
MALFORMED = {
    "empty file": (b"", "0 bytes"),
    "half a length": (b"\x10\0\0", "3 bytes"),
    "header cut short": (container({}, length=50), "only 2 follow"),
    "header of zero bytes": (b"\0" * 16, "smallest"),
    "header too large": ((100_000_001).to_bytes(8, "little") + b"{}", "limit"),
    "header length of 2**64-1": (b"\xff" * 8 + b"{}", "limit"),
    "not an object": (container("[1]  "), "starts with"),
    "leading space": (container(" {}"), "starts with"),
    "not JSON": (container('{"a":'), "cannot be read"),
    "not UTF-8": (container(b'{"\xff":1}'), "cannot be read"),
    "nested a million deep": (container('{"a":' + "[" * 1_000_000), "cannot be read"),
    "NaN in the header": (container('{"a":NaN}'), "not JSON"),
    "duplicate tensor": (
        container(
            '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
            '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            F4,
        ),
        "occurs twice",
    ),
    "duplicate field": (
        container('{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', F4),
        "twice",
    ),
    "metadata not strings": (container({"__metadata__": {"a": 1}}), "strings"),
    "entry not an object": (container({"a": 3}), "keys"),
    "missing field": (container({"a": {"dtype": "F32", "shape": [1]}}), "keys"),
    "extra field": (container({"a": {**entry(0, 4, [1]), "x": 1}}, F4), "keys"),
    "unknown dtype": (container({"a": entry(0, 4, [1], "F33")}, F4), "F33"),
    "dtype a number": (container({"a": entry(0, 4, [1], 7)}, F4), "unknown dtype"),
    "negative size": (container({"a": entry(0, 4, [-1])}, F4), ">= 0"),
    "size a float": (container({"a": entry(0, 4, [1.0])}, F4), ">= 0"),
    "size a bool": (container({"a": entry(0, 4, [True])}, F4), ">= 0"),
    "negative offset": (container({"a": entry(-4, 0, [1])}, F4), ">= 0"),
    "three offsets": (
        container({"a": {**entry(0, 4, [1]), "data_offsets": [0, 2, 4]}}, F4),
        "begin",
    ),
    "offsets reversed": (container({"a": entry(4, 0, [1])}, F4), "begin"),
    "product overflows": (container({"a": entry(0, 0, [2**40, 2**40])}), "overflow"),
    "one size overflows": (container({"a": entry(0, 0, [0, 2**64])}), "overflow"),
    "offset overflows": (container({"a": entry(0, 2**70, [2**68])}), "overflow"),
    "too many dimensions": (container({"a": entry(0, 4, [1] * 65)}, F4), "dimensions"),
    "size and offsets disagree": (container({"a": entry(0, 4, [2])}, F4), "8 bytes"),
    "gap at the start": (container({"a": entry(4, 8, [1])}, 2 * F4), "gap"),
    "gap in the middle": (
        container({"a": entry(0, 4, [1]), "b": entry(8, 12, [1])}, 3 * F4),
        "gap",
    ),
    "overlap": (container({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, 3 * F4), "overlaps"),
    "same bytes twice": (container({"a": entry(0, 4, [1]), "b": entry(0, 4, [1])}, F4), "overlaps"),
    "data cut short": (container({"a": entry(0, 4, [1])}, b"\0\0"), "cut short"),
    "data appended": (container({"a": entry(0, 4, [1])}, F4 + b"x"), "appended"),
    "no data at all": (container({"a": entry(0, 2**50, [2**48])}), "cut short"),
}


@pytest.mark.parametrize("raw, words", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_files_are_refused(tmp_path, raw, words):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=words):
        load(path)
    with pytest.raises(ValueError, match="bad.safetensors"):
        load(path)


def test_no_prefix_of_a_file_loads():
    file = io.BytesIO()
    save({"a": torch.arange(3), "s": "x"}, file)
    raw = file.getvalue()
    for n in range(len(raw)):
        with pytest.raises(ValueError):
            load(io.BytesIO(raw[:n]))


def test_random_damage_loads_or_raises_value_error():
    file = io.BytesIO()
    save({"a": torch.arange(3), "b": [1.5, torch.ones(2, 2)]}, file)
    raw, rng = file.getvalue(), np.random.default_rng(0)
    refused = 0
    for _ in range(1500):
        damaged = bytearray(raw)
        for place in rng.integers(0, len(raw), rng.integers(1, 4)):
            damaged[place] = rng.integers(0, 256)
        try:
            load(io.BytesIO(bytes(damaged)))
        except ValueError:
            refused += 1
    assert refused > 500


def test_damaged_structure_is_refused():
    for text in [
        '{"dict":3}',
        '{"tensor":"nowhere"}',
        '{"eval":"1"}',
        '{"dict":[[{"list":[]},1]]}',
        "{",
    ]:
        meta = {"adjoint.structure": text, "adjoint.structure_version": "1"}
        with pytest.raises(ValueError, match="structure"):
            load(io.BytesIO(container({"__metadata__": meta})))
    newer = {"adjoint.structure": "1", "adjoint.structure_version": "99"}
    with pytest.raises(ValueError, match="99"):
        load(io.BytesIO(container({"__metadata__": newer})))


def test_pickles_are_refused_with_the_mend(tmp_path):
    class Boom:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was executed",))

    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps([Boom(), "x" * 200], protocol=2))
    with pytest.raises(ValueError, match="save_file"):
        load(path)
    path.write_bytes(b"PK\x03\x04\0\0\x08\x08" + b"\0" * 60)
    with pytest.raises(ValueError, match="pickle"):
        load(path)
    with pytest.raises(ValueError, match="weights_only"):
        load(path, weights_only=False)


def test_a_header_that_looks_like_a_pickle_protocol_loads():
    text = json.dumps({"__metadata__": {"k": "v"}}).ljust(0x0280)
    raw = container(text)
    assert raw[:2] == b"\x80\x02" and load(io.BytesIO(raw)) == {}


def test_what_cannot_be_saved_is_named():
    for obj, words in [
        ({"a": [1, {"f": print}]}, r"a\.1\.f"),
        (torch.nn.Linear(1, 1), "state_dict"),
        ({"x": np.ones(2)}, "tensor"),
        ({frozenset(): 1}, "frozenset"),
    ]:
        with pytest.raises(TypeError, match=words):
            save(obj, io.BytesIO())
    deep: list = []
    for _ in range(300):
        deep = [deep]
    with pytest.raises(ValueError, match="deeper"):
        save(deep, io.BytesIO())
    with pytest.raises(ValueError, match="cuda"):
        load(io.BytesIO(), map_location="cuda:0")
    with pytest.raises(FileNotFoundError):
        load("no/such/file.safetensors")


def test_unsupported_dtype_names_itself():
    with pytest.raises(ValueError, match="float8_e5m2"):
        load(io.BytesIO(container({"a": entry(0, 1, [1], "F8_E5M2")}, b"\0")))
    with pytest.raises(TypeError, match="complex128"):
        save_file({"a": torch.ones(1, dtype=torch.complex128)}, io.BytesIO())


@pytest.mark.parametrize("name", ["float16", "bfloat16", "complex64", "uint16", "uint64"])
def test_every_dtype_of_the_format_is_kept(name):
    dtype = getattr(torch, name)
    x = torch.tensor([0.0, 1.0, 2.5, 300.0]).to(dtype)
    file = io.BytesIO()
    save_file({"x": x}, file)
    file.seek(0)
    back = load_file(file)["x"]
    assert back.dtype is dtype
    assert back.tolist() == x.tolist()


def test_bfloat16_is_the_bits_of_the_format():
    back = load(io.BytesIO(container({"a": entry(0, 4, [2], "BF16")}, b"\x80\x3f\x20\xc0")))["a"]
    assert back.tolist() == [1.0, -2.5]


def test_layout_is_aligned_and_header_padded():
    file = io.BytesIO()
    save_file(
        {"a": torch.ones(3, dtype=torch.bool), "b": torch.ones(2, dtype=torch.float64)},
        file,
        {"k": "v"},
    )
    raw = file.getvalue()
    n = int.from_bytes(raw[:8], "little")
    entries, metadata, size = safetensors.parse_header(raw[8 : 8 + n], "it")
    assert n % 8 == 0 and metadata == {"k": "v"} and size == 19
    assert [(e.name, e.begin % 8 == 0) for e in entries] == [("a", True), ("b", True)]
    file.seek(0)
    assert list(load_file(file)) == ["a", "b"]
    with pytest.raises(TypeError):
        save_file({"a": 1}, file)
    with pytest.raises(ValueError, match="reserved"):
        save_file({"__metadata__": torch.ones(1)}, file)


def test_the_safetensors_library_agrees(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(1)
    arrays = {
        f"{d}.{i}": np.asarray(rng.normal(size=s) * 9).astype(d)
        for d in DTYPES
        for i, s in enumerate(SHAPES)
    }
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    save({k: torch.tensor(v) for k, v in arrays.items()}, ours)
    for name, array in library.load_file(ours).items():
        assert array.dtype == arrays[name].dtype and array.shape == arrays[name].shape
        assert np.array_equal(array, arrays[name])
    library.save_file(arrays, theirs, metadata={"format": "np"})
    got = load(theirs)
    assert set(got) == set(arrays)
    assert all(same(got[name], torch.tensor(arrays[name])) for name in arrays)


def test_complex128_is_stored_by_its_parts():
    z = torch.tensor([[1 + 2j, -3j]], dtype=torch.complex128)
    for obj in (z, {"z": z, "x": torch.ones(2)}, {"state": [z.T, 3]}):
        assert same(round_trip(obj), obj)
