"""Vector mathematics against mpmath: every function, both element types, over the whole range.

`RECORDS` has one row per function: its reference in mpmath, the error allowed, the places where its
formula changes. Each test compiles a loop over an array for the host and measures the error in
units in the last place. Run this file as a script, `python -m tests.codegen.test_vecmath 20000`,
for the worst errors over that many points per sample.
"""

from __future__ import annotations

import ctypes
import functools
import math
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pytest

from adjoint.codegen import vecmath
from adjoint.codegen.emitter import Emitter, vector_type

pytestmark = pytest.mark.any_mode

llvm = pytest.importorskip("llvmlite.binding")
mpmath = pytest.importorskip("mpmath")
mp, mpf = mpmath.mp, mpmath.mpf
llvm.initialize_native_target()
llvm.initialize_native_asmprinter()

DTYPES = {"float": np.float32, "double": np.float64}
NATURAL_LANES = {"float": 16, "double": 8}
INF, NAN = math.inf, math.nan


# Compiled loops.


def loop_text(name: str, element: str, lanes: int, arity: int) -> tuple[str, Emitter]:
    """The module of `void k(i64 n, ptr out, ptr in0, ...)`: the function over n elements."""
    em = Emitter()
    em.block = "loop"
    vec, align = vector_type(element, lanes), DTYPES[element]().itemsize
    arguments = []
    for k in range(arity):
        address = em.op(f"getelementptr {element}, ptr %in{k}, i64 %i")
        arguments.append(em.op(f"load {vec}, ptr {address}, align {align}"))
    result = vecmath.emit_math(em, name, element, lanes, *arguments)
    address = em.op(f"getelementptr {element}, ptr %out, i64 %i")
    em.line(f"store {vec} {result}, ptr {address}, align {align}")
    inputs = ", ".join(f"ptr noalias %in{k}" for k in range(arity))
    text = [
        f"define void @k(i64 %n, ptr noalias %out, {inputs}) {{",
        "entry:",
        "  br label %loop",
        "loop:",
        f"  %i = phi i64 [0, %entry], [%next, %{em.block}]",
        *em.lines,
        f"  %next = add i64 %i, {lanes}",
        "  %more = icmp slt i64 %next, %n",
        "  br i1 %more, label %loop, label %done",
        "done:",
        "  ret void",
        "}",
        *em.declarations,
    ]
    return "\n".join(text), em


@functools.cache
def compiled(name: str, element: str, lanes: int, arity: int, portable: bool = False) -> Callable:
    """The loop as a function of arrays.

    `portable` leaves out everything the host has beyond the base of its kind.
    """
    target = llvm.Target.from_default_triple()
    cpu = "" if portable else llvm.get_host_cpu_name()
    features = "" if portable else llvm.get_host_cpu_features().flatten()
    machine = target.create_target_machine(cpu=cpu, features=features, opt=2)
    module = llvm.parse_assembly(loop_text(name, element, lanes, arity)[0])
    module.verify()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(module, builder)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int64, *[ctypes.c_void_p] * (arity + 1))
    address = engine.get_function_address("k")

    def run(*inputs: np.ndarray, engine=engine) -> np.ndarray:
        count = len(inputs[0])
        padded = [np.resize(x, -(-count // 16) * 16) for x in inputs]
        out = np.empty_like(padded[0])
        kind(address)(len(out), out.ctypes.data, *[x.ctypes.data for x in padded])
        return out[:count]

    return run


# References.


def logarithm(function: Callable, shift: int = 0) -> Callable:
    """A logarithm of x + shift with its results at and below the pole."""

    def reference(x: mpf) -> mpf | float:
        if x == -shift:
            return -INF
        return NAN if x < -shift else function(x)

    return reference


def on_unit(function: Callable, poles: bool = False) -> Callable:
    def reference(x: mpf) -> mpf | float:
        if abs(x) > 1:
            return NAN
        return math.copysign(INF, x) if poles and abs(x) == 1 else function(x)

    return reference


def small(function: Callable, series: Callable) -> Callable:
    """The first term of the series next to 0, where mpmath loses the leading digits."""
    return lambda x: series(x) if abs(x) < mpf(2) ** -60 else function(x)


def sigmoid(x: mpf) -> mpf:
    return 1 / (1 + mp.exp(-x))


def log_gamma(x: mpf) -> mpf | float:
    if x <= 0 and x == mp.floor(x):
        return INF
    return mp.loggamma(x) if x > 0 else mp.log(mp.pi / abs(mp.sinpi(x))) - mp.loggamma(1 - x)


def digamma(x: mpf) -> mpf | float:
    if x <= 0 and x == mp.floor(x):
        return -INF if x == 0 else NAN
    return mp.digamma(x)


def erfc(x: mpf) -> mpf:
    return mp.erfc(x) if abs(x) < 1000 else mpf(0 if x > 0 else 2)  # mpmath overflows far out


def erfinv(x: mpf) -> mpf:
    """Halley's method on erfc(y) = 1 - |x|; mp.erfinv is slow and fails next to 1."""
    if abs(x) < mpf(2) ** -60:
        return x * mp.sqrt(mp.pi) / 2
    target, y = 1 - abs(x), mp.sqrt(-mp.log((1 - abs(x)) * (1 + abs(x)))) * mpf("0.9")
    for _ in range(40):
        f = (target - mp.erfc(y)) * mp.sqrt(mp.pi) / 2 * mp.exp(y * y)
        step = f / (1 + y * f)
        y -= step
        if abs(step) < y * mpf(2) ** -70:
            break
    return y if x > 0 else -y


def power(x: mpf, y: mpf) -> mpf | float:
    """Finite nonzero x and y; the other cases are in `SPECIAL_POW`."""
    if x < 0 and y != mp.floor(y):
        return NAN
    size = mp.exp(y * mp.log(abs(x)))
    return -size if x < 0 and int(y) % 2 else size


class Record(NamedTuple):
    """One function under test."""

    reference: Callable
    special: dict[float, float]  # results at zeros, infinities and the like
    centres: Sequence[float] = ()
    span: float = 40.0  # half-width of the uniform sample
    ulps: float = 2.0
    absolute: float = 0.0  # next to zeros an error up to this is fine, too
    odd: bool = False  # f(-x) = -f(x), zeros included


RECORDS: dict[str, Record] = {
    "exp": Record(
        mp.exp,
        {INF: INF, -INF: 0.0, -0.0: 1.0},
        (88.72, 709.78, -87.3, -103.9, -132.39, -708.4, -745.1, -797.81),
        800,
    ),
    "exp2": Record(
        lambda x: mp.exp(x * mp.ln2),
        {INF: INF, -INF: 0.0, 3.0: 8.0},
        (128, 1024, -126, -149, -191, -1074, -1151),
        1100,
    ),
    "expm1": Record(
        mp.expm1,
        {INF: INF, -INF: -1.0, -0.0: -0.0},
        (0.3466, -0.3466, 1.04, 88.72, 709.78, -17.3, -38),
        100,
    ),
    "sigmoid": Record(
        sigmoid, {INF: 1.0, -INF: 0.0, 0.0: 0.5}, (-87.3, -103.9, -132.39, -708.4, -745.1, -797.81, 17), 50
    ),
    "sinh": Record(mp.sinh, {INF: INF, -INF: -INF}, (1, -1, 89.4, 710.4), 100, odd=True),
    "cosh": Record(mp.cosh, {INF: INF, -INF: INF, 0.0: 1.0}, (89.4, 710.4), 100),
    "tanh": Record(mp.tanh, {INF: 1.0, -INF: -1.0}, (0.6, -0.6, 9, 19), 10, odd=True),
    "log": Record(
        logarithm(mp.log), {INF: INF, -INF: NAN, -0.0: -INF, 1.0: 0.0}, (1, 0.7071, 1.4142, 2), 4
    ),
    "log1p": Record(
        logarithm(mp.log1p, 1), {INF: INF, -INF: NAN, -0.0: -0.0}, (-1, -0.293, 0.414, 1), 2
    ),
    "log2": Record(
        logarithm(lambda x: mp.log(x) / mp.ln2),
        {INF: INF, 0.0: -INF, 8.0: 3.0},
        (1, 0.7071, 1.4142),
        4,
    ),
    "log10": Record(
        logarithm(lambda x: mp.log(x) / mp.ln10),
        {INF: INF, -1.0: NAN, 1.0: 0.0},
        (1, 0.7071, 1.4142),
        4,
    ),
    "asinh": Record(
        small(mp.asinh, lambda x: x),
        {INF: INF, -INF: -INF},
        (2**-8, 2**-18, 2**15, 2**30, 1),
        odd=True,
    ),
    "acosh": Record(
        lambda x: NAN if x < 1 else mp.acosh(x),
        {INF: INF, -INF: NAN, 1.0: 0.0},
        (1, 1.5, 2**15, 2**30),
    ),
    "atanh": Record(
        on_unit(small(mp.atanh, lambda x: x), True),
        {INF: NAN, 1.0: INF},
        (1, 2**-8, 2**-18),
        1,
        odd=True,
    ),
    "sin": Record(
        mp.sin, {INF: NAN, -INF: NAN}, (math.pi, math.pi / 2, math.pi / 4, 2**16, 2**28), odd=True
    ),
    "cos": Record(
        mp.cos, {INF: NAN, -INF: NAN, 0.0: 1.0}, (math.pi, math.pi / 2, math.pi / 4, 2**16, 2**28)
    ),
    "tan": Record(
        mp.tan, {INF: NAN, -INF: NAN}, (math.pi, math.pi / 2, math.pi / 4, 2**16, 2**28), odd=True
    ),
    "asin": Record(on_unit(mp.asin), {INF: NAN}, (1, -1, 0.5, 0.84), 1, odd=True),
    "acos": Record(on_unit(mp.acos), {INF: NAN, 1.0: 0.0}, (1, -1, 0.5, -0.5), 1),
    "atan": Record(mp.atan, {INF: math.pi / 2, -INF: -math.pi / 2}, (1, -1), 4, odd=True),
    "erf": Record(mp.erf, {INF: 1.0, -INF: -1.0}, (1, -1, 3.9, 5.9), 4, odd=True),
    "erfc": Record(erfc, {INF: 0.0, -INF: 2.0, 0.0: 1.0}, (1, 0.8, -0.8, 9.2, 10, 26.5, 27.2), 28),
    "erfinv": Record(
        on_unit(erfinv, True),
        {INF: NAN, 1.0: INF, -1.0: -INF},
        (1, -1, 0.9966, 0.5),
        1,
        ulps=4,
        odd=True,
    ),
    "lgamma": Record(
        log_gamma, {INF: INF, -INF: INF, 1.0: 0.0, 2.0: 0.0, -3.0: INF}, (1, 2, 3, 8), 30, 8, 1e-13
    ),
    "digamma": Record(
        digamma, {INF: INF, -INF: NAN, -0.0: INF, -1.0: NAN}, (1, 10, -0.5), 30, 8, 1e-13
    ),
}
# For functions of two arguments the samples of both are paired at random.
PAIRS: dict[str, Record] = {
    "atan2": Record(lambda y, x: mp.atan2(y, x), {}, (1,), 3),
    "pow": Record(power, {}, (1, 2), 30),
    "fmod": Record(lambda x, y: mpf(math.fmod(x, y)), {}, (1, 2), 30, ulps=0.0),
}
SPECIAL_POW = [
    (2, 0, 1),
    (NAN, 0, 1),
    (INF, -0.0, 1),
    (1, NAN, 1),
    (1, INF, 1),
    (-1, INF, 1),
    (-1, -INF, 1),
    (0.0, 3, 0.0),
    (-0.0, 3, -0.0),
    (-0.0, 2, 0.0),
    (-0.0, 0.5, 0.0),
    (0.0, -3, INF),
    (-0.0, -3, -INF),
    (-0.0, -2, INF),
    (0.0, -INF, INF),
    (0.0, INF, 0.0),
    (0.5, INF, 0.0),
    (2, INF, INF),
    (0.5, -INF, INF),
    (-2, -INF, 0.0),
    (INF, 2, INF),
    (INF, -0.1, 0.0),
    (-INF, 3, -INF),
    (-INF, 2.5, INF),
    (-INF, -3, -0.0),
    (-INF, -2.5, 0.0),
    (-2, 3, -8),
    (-2, 2, 4),
    (-2, 0.5, NAN),
    (NAN, 1, NAN),
    (2, NAN, NAN),
    (-1, 1e30, 1),
    (0.0, 1e-40, 0.0),
    (INF, 1e-40, INF),
    (-8, 1 / 3, NAN),
    (3, 4, 81),
    (10, -2, 0.01),
    (-1, 3, -1),
    (2, 0.5, 2**0.5),
]
PI = math.pi
SPECIAL_ATAN2 = [
    (0.0, 1, 0.0),
    (-0.0, 1, -0.0),
    (0.0, -1, PI),
    (-0.0, -1, -PI),
    (0.0, 0.0, 0.0),
    (-0.0, 0.0, -0.0),
    (0.0, -0.0, PI),
    (-0.0, -0.0, -PI),
    (1, 0.0, PI / 2),
    (-1, -0.0, -PI / 2),
    (INF, INF, PI / 4),
    (1, INF, 0.0),
    (INF, -INF, 3 * PI / 4),
    (-INF, 1, -PI / 2),
    (-1, INF, -0.0),
    (1, -INF, PI),
    (NAN, 1, NAN),
    (0.0, NAN, NAN),
    (NAN, INF, NAN),
]
SPECIAL_FMOD = [
    (5, 3, 2),
    (-5, 3, -2),
    (-0.0, 1, -0.0),
    (1, INF, 1),
    (INF, 1, NAN),
    (1, 0.0, NAN),
    (NAN, 1, NAN),
]


# Samples and errors.


def sample(record: Record, element: str, count: int, seed: int) -> np.ndarray:
    """Bit patterns, spread magnitudes, a uniform stretch, and the neighbourhoods of centres."""
    dtype, rng = DTYPES[element], np.random.default_rng(seed)
    unsigned = np.uint32 if element == "float" else np.uint64
    signs = rng.choice([-1, 1], count)
    parts = [
        rng.integers(0, np.iinfo(unsigned).max, count, dtype=unsigned, endpoint=True).view(dtype),
        np.exp2(rng.uniform(-40, 12, count)) * signs,
        rng.uniform(-record.span, record.span, count),
        rng.uniform(0, 2**-1060 if element == "double" else 2**-130, count // 8),
    ]
    for centre in record.centres:
        near = count // 8
        parts.append(centre * (1 + np.exp2(rng.uniform(-54, -3, near)) * rng.choice([-1, 1], near)))
    return np.concatenate([part.astype(dtype) for part in parts])


def error_in_ulps(got: float, want: mpf, element: str) -> mpf:
    """|got - want| in units of the last place of want.

    Infinity counts as the first number past the largest.
    """
    digits, lowest, top = (24, -125, 128) if element == "float" else (53, -1021, 1024)
    exponent = max(mp.frexp(want)[1], lowest)
    if math.isnan(got):
        return mpf(INF)
    if math.isinf(got):
        if abs(want) >= mpf(2) ** top and (got > 0) == (want > 0):
            return mpf(0)
        got = mpf(2) ** top if got > 0 else -(mpf(2) ** top)
    elif abs(want) >= mpf(2) ** top:
        want, exponent = mpf(2) ** top * mp.sign(want), top
    return abs(mpf(got) - want) / mpf(2) ** (exponent - digits)


def worst_error(
    name: str, record: Record, element: str, inputs: list[np.ndarray]
) -> tuple[mpf, tuple]:
    """The largest error over the finite inputs, and where.

    A wrong NaN, infinity or sign counts as infinite.
    """
    got = compiled(name, element, NATURAL_LANES[element], len(inputs))(*inputs)
    worst, place = mpf(0), ()
    with mp.workprec(140):
        for *arguments, value in zip(*[x.tolist() for x in inputs], got.tolist(), strict=True):
            if not all(math.isfinite(argument) for argument in arguments) or arguments[-1] == 0:
                continue
            want = record.reference(*[mpf(argument) for argument in arguments])
            if not mp.isfinite(want):
                error = (
                    mpf(0) if value == want or (mp.isnan(want) and math.isnan(value)) else mpf(INF)
                )
            else:
                error = error_in_ulps(value, want, element)
                if error > record.ulps and abs(value - want) <= record.absolute:
                    error = mpf(record.ulps)
            if error > worst:
                worst, place = error, (*arguments, value, mp.nstr(want, 20))
    return worst, place


def same(got: float, want: float) -> bool:
    return (
        math.isnan(got)
        if math.isnan(want)
        else got == want and math.copysign(1, got) == math.copysign(1, want)
    )


def pair_inputs(name: str, element: str, count: int) -> list[np.ndarray]:
    record, rng = PAIRS[name], np.random.default_rng(5)
    x, y = sample(record, element, count, 3), sample(record, element, count, 4)
    x, y = x[rng.permutation(len(x))], y[rng.permutation(len(y))]
    if (
        name == "pow"
    ):  # most random pairs overflow: bring the product y * log2(x) into the range of exponents
        x[::2] = np.abs(x[::2])
        top = 160 if element == "float" else 1100
        with np.errstate(all="ignore"):
            moderate = (rng.uniform(-top, top, len(x)) / np.log2(x.astype(np.float64))).astype(
                x.dtype
            )
        y = np.where((rng.random(len(x)) < 0.6) & np.isfinite(moderate), moderate, y)
    return [x, y]


# Tests.


def test_every_function_has_a_record() -> None:
    assert set(RECORDS) | set(PAIRS) == set(vecmath.FUNCTIONS)


@pytest.mark.parametrize("element", DTYPES)
@pytest.mark.parametrize("name", RECORDS)
def test_accuracy(name: str, element: str) -> None:
    record = RECORDS[name]
    slow = name in ("erfinv", "lgamma", "digamma")
    worst, place = worst_error(
        name, record, element, [sample(record, element, 60 if slow else 500, 1)]
    )
    assert worst <= record.ulps, f"{float(worst):.3f} ulp at {place}"


@pytest.mark.parametrize("element", DTYPES)
@pytest.mark.parametrize("name", PAIRS)
def test_accuracy_of_pairs(name: str, element: str) -> None:
    worst, place = worst_error(name, PAIRS[name], element, pair_inputs(name, element, 600))
    assert worst <= PAIRS[name].ulps, f"{float(worst):.3f} ulp at {place}"


@pytest.mark.parametrize("element", DTYPES)
@pytest.mark.parametrize("name", RECORDS)
def test_special_values(name: str, element: str) -> None:
    dtype = DTYPES[element]
    table = [*RECORDS[name].special.items(), (NAN, NAN)]
    if RECORDS[name].odd:
        table.append((0.0, 0.0))
        table += [(-argument, -want) for argument, want in table]
    got = compiled(name, element, NATURAL_LANES[element], 1)(
        np.array([argument for argument, _ in table], dtype)
    )
    for (argument, want), value in zip(table, got.tolist(), strict=True):
        assert same(value, float(dtype(want))), f"{name}({argument}) = {value}, not {want}"


@pytest.mark.parametrize("element", DTYPES)
@pytest.mark.parametrize(
    "name, table", [("pow", SPECIAL_POW), ("atan2", SPECIAL_ATAN2), ("fmod", SPECIAL_FMOD)]
)
def test_special_pairs(name: str, table: list, element: str) -> None:
    dtype = DTYPES[element]
    columns = np.array(table, np.float64).T.astype(dtype)
    got = compiled(name, element, NATURAL_LANES[element], 2)(columns[0].copy(), columns[1].copy())
    for (first, second, want), value in zip(table, got.tolist(), strict=True):
        if math.isfinite(want) and want not in (0.0, 1.0):
            fine = math.isclose(value, want, rel_tol=2 * float(np.finfo(dtype).eps))
        else:
            fine = same(value, float(want))
        # 1e-40 and 1/3 are other numbers in float, but the results are the same.
        assert fine, f"{name}({first}, {second}) = {value}, not {want}"


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_huge_arguments(name: str) -> None:
    """Numbers next to multiples of pi/2, the largest ones, and powers of two."""
    hardest = {
        "double": [math.ldexp(6381956970095103, 797), 1e22, 1e300],
        "float": [1.6367e38, 16367173 * 2.0**72],
    }
    for element, dtype in DTYPES.items():
        big = np.finfo(dtype).max
        powers = np.exp2(np.arange(10, 1023 if element == "double" else 127, 3.0)).astype(dtype)
        x = np.concatenate(
            [np.array([*hardest[element], -big, big], dtype), powers, -powers * dtype(1.37)]
        )
        record = Record(getattr(mp, name), {})
        worst, place = worst_error(name, record, element, [x])
        assert worst <= 2, f"{float(worst):.3f} ulp at {place}"


def few_inputs(name: str, element: str) -> list[np.ndarray]:
    if name in PAIRS:
        return pair_inputs(name, element, 40)
    specials = np.array([0.0, -0.0, 1.0, -1.0, INF, -INF, NAN, 1e30, -3e37], DTYPES[element])
    return [np.concatenate([sample(RECORDS[name], element, 40, 2), specials])]


@pytest.mark.parametrize("element", DTYPES)
@pytest.mark.parametrize("name", vecmath.FUNCTIONS)
def test_lanes_do_not_change_results(name: str, element: str) -> None:
    """The same bits for 1, 4, 8 and 16 lanes, and on a processor without the host's extensions."""
    inputs = few_inputs(name, element)
    loops = [compiled(name, element, lanes, len(inputs)) for lanes in (1, 4, 8, 16)]
    loops.append(compiled(name, element, 4, len(inputs), portable=True))
    results = [loop(*inputs) for loop in loops]
    for other in results[1:]:
        equal = (
            results[0].view(np.uint8).reshape(len(other), -1)
            == other.view(np.uint8).reshape(len(other), -1)
        ).all(1)
        assert (equal | (np.isnan(results[0]) & np.isnan(other))).all()


@pytest.mark.parametrize("name", vecmath.FUNCTIONS)
def test_only_intrinsics_are_called(name: str) -> None:
    for element in DTYPES:
        _, em = loop_text(name, element, 8, 2 if name in PAIRS else 1)
        assert all(
            "@llvm." in text or text.lstrip().startswith(("define internal", "@adjoint."))
            for text in em.declarations
        )


def test_the_error_measure_sees_one_ulp() -> None:
    x = np.float32(1.5)
    assert error_in_ulps(float(np.nextafter(x, np.float32(2))), mpf(1.5), "float") == 1
    assert error_in_ulps(float("inf"), mpf(2) ** 127, "float") > 2
    wrong = RECORDS["exp"]._replace(reference=lambda t: mp.exp(t) * (1 + mpf(2) ** -20))
    assert worst_error("exp", wrong, "float", [np.linspace(-1, 1, 50, dtype=np.float32)])[0] > 2


def test_unknown_names_are_refused() -> None:
    with pytest.raises(KeyError):
        vecmath.emit_math(Emitter(), "no_such_function", "float", 4, "%x")
    with pytest.raises(KeyError):
        vecmath.emit_math(Emitter(), "exp", "half", 4, "%x")


if __name__ == "__main__":
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    for function in sys.argv[2:] or [*RECORDS, *PAIRS]:
        row = f"{function:8}"
        for kind in DTYPES:
            entry = RECORDS.get(function) or PAIRS[function]
            given = (
                pair_inputs(function, kind, points)
                if function in PAIRS
                else [sample(entry, kind, points, 11)]
            )
            error, where = worst_error(function, entry, kind, given)
            row += f"  {kind} {float(error):.3f} at {where}"
        print(row, flush=True)
