"""A loop nest as what a matrix product does with each tile of its result.

`EpilogueKernel` writes a nest as a function for a rectangle of rows and columns, which reads the product from the tile
that the product's kernel has just computed (`gemm_words.Epilogue`). Pointwise work after a product, a bias, an activation,
a cast, so needs no pass over memory, and the product itself no memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from adjoint.codegen.emitter import vector_type
from adjoint.codegen.gemm_words import EPILOGUE_PARAMETERS, Epilogue, Offer
from adjoint.codegen.nest import NestKernel
from adjoint.codegen.tiling import ROW_DEPTH
from adjoint.ir.graph import Node
from adjoint.schedule.expr import Var
from adjoint.schedule.values import Nest, Root, Value

__all__ = ["EpilogueKernel"]

_ASKED_FOR = 1 << 18  # bytes: smaller buffers are near
_MOST_UNROLLED = 400  # additions, in all vectors of a tile's row: of more work a loop is a small part, and compiled sooner


class EpilogueKernel(NestKernel):
    """The writer of one epilogue.

    product: the node that is read from a tile, at the place in its rows and columns at which the nest is.  columns: the
    loop with which the columns begin.  offer: how the product's tiles are.  The other arguments are those of `NestKernel`.
    """

    def __init__(
        self, nest: Nest, stored: set[Node], vector_bytes: int, product: Node, columns: Var, offer: Offer,
        replaced: Sequence[tuple[Node, Node]] = (), checked: bool = False,
    ) -> None:  # fmt: skip
        self.product, self.columns, self.offer = product, columns, offer
        self.apart, self.most_lanes = columns, offer.lanes
        super().__init__(nest, stored, vector_bytes, replaced, checked)
        self.row_block = self.n_rows

    @property
    def suits(self) -> bool:
        """Whether the loops came out as rows and one loop over columns, which is the vectorised one."""
        vec = self.vec
        return vec is not None and vec.members[0] is self.apart and self.lanes > 1 and self.n_rows > 1 and not (self.swapped or self.tile or self.cols)

    def written(self) -> Epilogue:
        """The functions.

        Where tiles overlap, an element is computed twice, with the same bits. It must not be where a result lies on what it is
        computed from, nor before its sum is complete.
        """
        width, exact = self.offer.width, self.offer.exact or bool(self.replaced)
        is_whole = width % self.lanes == 0 and self.weight * (width // self.lanes) <= _MOST_UNROLLED
        names: dict[bool, str] = {}
        declarations: dict[str, None] = {}
        writer = self
        for whole, wanted in ((True, is_whole), (False, not is_whole or (exact and self.n_vec % width != 0))):
            if wanted:
                if writer.em.declarations or writer.buffers:
                    writer = EpilogueKernel(
                        self.nest, self.stored, self.vector_bytes, self.product, self.columns, self.offer, self.replaced, self.checked
                    )
                text = writer._function(whole)
                names[whole] = f"@adjoint.epilogue.{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"
                function = f"define internal void {names[whole]}({EPILOGUE_PARAMETERS}) noinline {{\nentry:\n{text}\n}}\n"
                declarations.update(dict.fromkeys([*writer.em.declarations, function]))
        assert (writer.buffers, writer.scalars, writer.offsets) == (self.buffers, self.scalars, self.offsets)
        return Epilogue(names.get(True), names.get(False), tuple(declarations), width, self._alike())

    def _function(self, whole: bool) -> str:
        """The text for all columns of a tile, or for as many as the caller says."""
        self._begin()
        self.levels.push()
        looped = [self._open_rows(("%row_from", "%row_to"))]
        if whole:
            assert self.vec is not None
            for column in range(0, self.offer.width, self.lanes):
                self.levels.push()
                at = self.em.op(f"add i64 %column_from, {column}") if column else "%column_from"
                self.levels.stack[-1].memo["var", self.vec.last] = at
                self._stages()
                self.levels.pop()
        else:
            looped.append(self._open_vectors(("%column_from", "%column_to")))
            self._stages()
        self._close([False, *looped])
        self._end()
        return self._body()

    def _alike(self) -> tuple[tuple[int, int], ...]:
        """The large buffers that are read or written at the place in memory that is C's, too."""
        loads = [v for v in self.needed if v.op == "load"]
        (place,) = {v.attrs[1] for v in loads if v.attrs[0] is self.product}
        found = [v.attrs[0] for v in loads if v.attrs[1] == place] + [r.target for r in self.roots if r.place == place]
        large = [node for node in found if node is not self.product and node.size * node.dtype.itemsize > _ASKED_FOR]
        return tuple(sorted({(self.buffers.index(node), node.dtype.itemsize) for node in large}))

    def _load(self, v: Value, lanes: int, depth: int) -> str:
        if v.attrs[0] is not self.product:
            return super()._load(v, lanes, depth)
        assert self.vec is not None
        em, element = self.em, v.dtype.llvm
        self.levels.use(ROW_DEPTH - 1)
        memo = self.levels.stack[ROW_DEPTH - 1].memo
        line = memo.get("line of tile")
        if line is None:
            row = em.op(f"mul i64 {em.op(f'sub i64 {self.row_number[0]}, %top')}, %apart")
            line = memo["line of tile"] = em.op(f"getelementptr {element}, ptr %tile, i64 {em.op(f'sub i64 {row}, %left')}")
        self.levels.use(depth)
        place = em.op(f"getelementptr {element}, ptr {line}, i64 {self.levels.stack[self.vec.depth].memo['var', self.vec.last]}")
        return em.op(f"load {vector_type(element, lanes)}, ptr {place}, align {v.dtype.itemsize}")

    def _streams(self, root: Root, nbytes: int) -> bool:
        return False
