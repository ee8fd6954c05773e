"""Text of LLVM IR, one instruction at a time.

`Emitter` owns the growing function body. Everything that writes IR (`vecmath`, the loop kernels, the
matrix product) goes through `op`, `line`, `label` and `declare`. Types are written as LLVM spells them;
`vector_type("float", 16)` is `<16 x float>` and `vector_type("float", 1)` is the plain scalar `float`.
"""

from __future__ import annotations

import struct

OWN_BYTES = 1 << 19  # of memory that a worker brings for the kernels it runs; what none of them touches costs nothing


def vector_type(element: str, lanes: int) -> str:
    """LLVM's name of `lanes` elements; one lane is a scalar."""
    return element if lanes == 1 else f"<{lanes} x {element}>"


def float_literal(value: float, element: str) -> str:
    """A float or double constant in LLVM's exact hexadecimal form (floats are widened first)."""
    if element == "float":
        value = struct.unpack("<f", struct.pack("<f", value))[0]
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


class Emitter:
    """Body of one LLVM function under construction.

    lines: instructions in order.  declarations: functions used, as LLVM `declare` lines or whole definitions.
    block: label of the basic block that is being written (phi nodes need it).
    copies: how often an elementary function is written out before it becomes a function that is called (0: always).
    """

    __slots__ = ("lines", "declarations", "block", "copies", "_count", "_written")

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.declarations: dict[str, None] = {}
        self.block = "entry"
        self.copies = 0
        self._count = 0
        self._written: dict[str, int] = {}

    def name(self, hint: str = "t") -> str:
        """A fresh SSA name such as `%t17`."""
        self._count += 1
        return f"%{hint}{self._count}"

    def op(self, text: str, hint: str = "t") -> str:
        """Append `%fresh = text` and return the fresh name."""
        out = self.name(hint)
        self.lines.append(f"  {out} = {text}")
        return out

    def line(self, text: str) -> None:
        """Append an instruction without a result."""
        self.lines.append("  " + text)

    def fresh_label(self, hint: str) -> str:
        self._count += 1
        return f"{hint}{self._count}"

    def label(self, label: str) -> None:
        """Start the basic block `label`."""
        self.lines.append(f"{label}:")
        self.block = label

    def declare(self, text: str) -> None:
        """Note an external function, for example `float @llvm.fma.f32(float, float, float)`."""
        self.declarations[f"declare {text}"] = None

    def is_to_be_called(self, name: str) -> bool:
        """Whether this function, which is wanted once more, has been written out often enough."""
        times = self._written[name] = self._written.get(name, 0) + 1
        return 0 < self.copies < times

    def splat(self, element: str, lanes: int, value: str) -> str:
        """The scalar SSA value or literal `value` in every lane."""
        if lanes == 1:
            return value
        vec = vector_type(element, lanes)
        if not value.startswith("%"):
            return f"splat ({element} {value})"
        first = self.op(f"insertelement {vec} poison, {element} {value}, i32 0")
        return self.op(f"shufflevector {vec} {first}, {vec} poison, <{lanes} x i32> zeroinitializer")

    def constant(self, element: str, lanes: int, value: float) -> str:
        """A literal of the element type in every lane; ints for integer elements."""
        text = float_literal(value, element) if element in ("float", "double") else str(int(value))
        return self.splat(element, lanes, text)
