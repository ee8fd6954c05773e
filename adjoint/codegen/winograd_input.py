"""The first stage of `winograd`: rows of x to transformed input. Read `Inputs.write`.
"""

from __future__ import annotations

from adjoint.codegen.conv_plan import Problem
from adjoint.codegen.emitter import vector_type
from adjoint.codegen.gemm_words import (
    Emitter,
    Operand,
    Shape,
    add,
    buffer_address,
    element_address,
    load,
    loop,
    plus,
    store,
    times,
)
from adjoint.codegen.winograd_plan import WinogradPlan
from adjoint.codegen.winograd_words import (
    both_axes,
    four_to_four,
    lanes_of,
    larger,
    pieces_of,
    scaled,
)

FEW_ELEMENTS = 4.0  # tiles whose elements add up to less than so many times the largest are computed by the definition


class Inputs:
    """Writes the transform of one row of tiles of one channel of x."""

    def __init__(self, em: Emitter, shape: Shape, p: Problem, plan: WinogradPlan, slab: str) -> None:
        """slab: where the transformed input goes, and behind it two numbers for each tile, in rows of whole vectors.

        They are the sum of the absolute values of a tile over all channels, and the largest of them.
        """
        self.em, self.shape, self.p, self.plan, self.to = em, shape, p, plan, slab
        self.vec = vector_type(shape.element, shape.lanes)
        self.x = buffer_address(em, Operand(0, 0, 0, 1))
        self.sums = element_address(em, shape, slab, str(plan.counts_at))
        self.largest = element_address(em, shape, self.sums, str(plan.tall * plan.row_length))
        self.zeros = element_address(em, shape, slab, str(plan.zeros_at))  # what rows above and below the image read
        with loop(em, "0", str(plan.wide)) as i:
            em.line(f"store float 0.0, ptr {element_address(em, shape, self.zeros, i)}, align 4")

    def clear(self) -> None:
        with loop(self.em, "0", str(2 * self.plan.tall * self.plan.row_length), self.shape.lanes) as i:
            store(self.em, self.shape, "zeroinitializer", element_address(self.em, self.shape, self.sums, i))

    def judge(self) -> None:
        """Put NaN in the place of the sum of each tile that few elements dominate, else zero."""
        em, shape = self.em, self.shape
        with loop(em, "0", str(self.plan.tall * self.plan.row_length), shape.lanes) as i:
            at = element_address(em, shape, self.sums, i)
            largest = load(em, shape, element_address(em, shape, self.largest, i))
            limit = em.op(f"fmul {self.vec} {largest}, {em.constant('float', shape.lanes, FEW_ELEMENTS)}")
            few = em.op(f"fcmp olt {self.vec} {load(em, shape, at)}, {limit}")
            nan = em.constant("float", shape.lanes, float("nan"))
            value = em.op(f"select <{shape.lanes} x i1> {few}, {self.vec} {nan}, {self.vec} zeroinitializer")
            store(em, shape, value, at)

    def _count(self, i: str, tile: str, transformed: list[list[str]]) -> None:
        """Count in the elements of one channel. Four frequencies show them all: each element is in one of these."""
        em, shape = self.em, self.shape
        em.declare(f"{self.vec} @llvm.fabs.v{shape.lanes}f32({self.vec})")
        corners = [transformed[k][j] for k in (0, 3) for j in (0, 3)]
        sizes = [em.op(f"call {self.vec} @llvm.fabs.v{shape.lanes}f32({self.vec} {value})") for value in corners]
        place = plus(em, times(em, i, self.plan.row_length), tile)
        at = element_address(em, shape, self.sums, place)
        total = add(em, shape, add(em, shape, sizes[0], sizes[1]), add(em, shape, sizes[2], sizes[3]))
        store(em, shape, add(em, shape, load(em, shape, at), total), at)
        at = element_address(em, shape, self.largest, place)
        low, high = larger(em, shape, sizes[0], sizes[1]), larger(em, shape, sizes[2], sizes[3])
        store(em, shape, larger(em, shape, load(em, shape, at), larger(em, shape, low, high)), at)

    def _bits(self, piece: int, part: int) -> tuple[bool, ...]:
        """Which elements of a vector exist: those of the piece's columns from 0, lanes, 2 and lanes + 2 on, by part."""
        first = self._column(piece) + (0, self.shape.lanes, 2, self.shape.lanes + 2)[part]
        return tuple(0 <= first + lane < self.p.sizes[1] for lane in range(self.shape.lanes))

    def _column(self, piece: int) -> int:
        return 2 * self.shape.lanes * piece - self.p.lo[1]

    def write(self, image: str, row: str, c: str, i: str) -> None:
        """image, row: which row of tiles.  c: the channel.  i: its number within the unit."""
        em, shape, plan = self.em, self.shape, self.plan
        lines = self.lines(image, row, c)
        to = element_address(em, shape, self.to, times(em, c, plan.length), times(em, i, plan.across))
        pieces = [tuple(self._bits(n, part) for part in range(4)) for n in range(-(-plan.across // shape.lanes))]
        for number, like in pieces_of(em, pieces):
            tiles = [self._tiles(line, number, pieces[like]) for line in lines]
            here = element_address(em, shape, to, scaled(em, number, shape.lanes))
            transformed = both_axes(em, shape, four_to_four, tiles)
            self._count(i, scaled(em, number, shape.lanes), transformed)
            for k, row_ in enumerate(transformed):
                for j, value in enumerate(row_):
                    store(em, shape, value, element_address(em, shape, here, str((4 * k + j) * plan.input_step)))

    def lines(self, image: str, row: str, c: str) -> list[str]:
        """Where the four rows of x that a row of tiles reads begin, with zeros for those outside."""
        em, shape, p = self.em, self.shape, self.p
        source = element_address(em, shape, self.x, times(em, image, p.x_strides[0]), times(em, c, p.x_strides[2]))
        top = plus(em, times(em, row, 2), str(-p.lo[0]))
        out = []
        for k in range(4):
            h = plus(em, top, str(k))
            inside = em.op(f"icmp ult i64 {h}, {p.sizes[0]}")
            line = element_address(em, shape, source, times(em, h, p.x_strides[3]))
            out.append(em.op(f"select i1 {inside}, ptr {line}, ptr {self.zeros}"))
        return out

    def _tiles(self, line: str, number: int | str, bits: tuple[tuple[bool, ...], ...]) -> list[str]:
        """Elements 0 to 3 of a row of `lanes` tiles, two elements apart."""
        em, shape, lanes = self.em, self.shape, self.shape.lanes
        first = plus(em, scaled(em, number, 2 * lanes), str(-self.p.lo[1]))
        vectors = []
        for part, distance in enumerate((0, lanes, 2, lanes + 2)):
            if not any(bits[part]):
                vectors.append("zeroinitializer")
            else:
                at = element_address(em, shape, line, plus(em, first, str(distance)))
                vectors.append(load(em, shape, at, lanes_of(bits[part])))
        out = []
        for low, high in ((0, 1), (2, 3)):
            for odd in (0, 1):
                order = ", ".join(f"i32 {2 * lane + odd}" for lane in range(lanes))
                pair = f"{self.vec} {vectors[low]}, {self.vec} {vectors[high]}"
                out.append(em.op(f"shufflevector {pair}, <{lanes} x i32> <{order}>"))
        return out
