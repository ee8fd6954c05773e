"""Mistakes a maintainer could make, each as one exact replacement in one file.

`run.py` plants them one at a time in a copy of the project and asks the test suite. They were chosen by reading the code,
one or more in every layer, before anybody looked which test would notice. `old` occurs exactly once in its file and the
file still compiles with `new` in its place; `test_table.py` keeps that true. Where code moves, move the row with it; where
code goes, plant a mistake of the same kind in what replaces it.
"""

from __future__ import annotations

from typing import NamedTuple


class Mistake(NamedTuple):
    """name: short and unique.  kind: what sort of slip it is.  file: below `adjoint/`.  old, new: what is replaced by what.
    breaks: what a user would see.  added: whether the tests of that layer let it pass when it was first planted, so
    that one had to be written."""

    name: str
    kind: str
    file: str
    old: str
    new: str
    breaks: str
    added: bool = False


MISTAKES = [
    # --- derivatives ------------------------------------------------------------------------------
    Mistake(
        "atan2-sign", "sign in a rule", "grad/partials.py",
        "_over_square(-y, x, y)",
        "_over_square(y, x, y)",
        "the gradient of atan2 by its second operand points the other way",
    ),
    Mistake(
        "pow-at-zero", "wrong case at a kink", "grad/partials.py",
        "where((x == 0) & _not_negative(y), 0.0, out * log(x))",
        "where((x == 0) & _not_negative(y - 0.5), 0.0, out * log(x))",
        "the gradient of 0 ** y by y is -inf instead of 0 at y = 0",
    ),
    Mistake(
        "overwritten-part-keeps-gradient", "lost mask in a rule", "grad/transposes.py",
        'rest = record("slice_update", (g, zeros(value), *dynamic), attrs)',
        "rest = g",
        "what was overwritten in place still receives a gradient",
    ),
    Mistake(
        "window-dilation", "factor in a rule", "grad/transposes.py",
        "starts[d], steps[d] = o * dil, s",
        "starts[d], steps[d] = o, s",
        "gradients of dilated convolutions and windows land beside their elements",
    ),
    Mistake(
        "put-keeps-gradient", "lost mask in a rule", "grad/transposes.py",
        'return record("put", (g, index, zeros(values))), None, record("take", (g, index))',
        'return g, None, record("take", (g, index))',
        "elements replaced through an index tensor still receive a gradient",
    ),
    Mistake(
        "ties-share-nothing", "factor in a rule", "grad/explicit.py",
        'return winners / keep_axes(record("sum", (winners,), axes), x, axes)',
        "return winners",
        "each of several equal maxima receives the whole gradient",
    ),
    Mistake(
        "cholesky-diagonal", "factor in a rule", "grad/explicit.py",
        "return tril(x) - diag_embed(diagonal_of(x, 0, rank - 2, rank - 1)) * 0.5",
        "return tril(x)",
        "the diagonal of the gradient of cholesky is counted twice",
    ),
    Mistake(
        "one-cotangent-per-result", "lost cotangent", "grad/walk.py",
        "parts[k] = g if k not in parts else parts[k] + g",
        "parts[k] = g",
        "second derivatives of decompositions lose what reaches a result through the first derivative's own use of it",
    ),
    Mistake(
        "traces-in-wrong-order", "wrong order", "grad/walk.py",
        "number = -heapq.heappop(self.due)",
        "number = -(self.due.sort() or self.due.pop())",
        "backward over several ended traces visits the oldest first, so hooks there see a part of the gradient",
    ),
    # --- loops that are ever different ------------------------------------------------------------
    Mistake(
        "updates-by-eights", "off by one", "trace/pieces.py",
        "for k in range(0, len(same), TOGETHER)]",
        "for k in range(0, len(same) - len(same) % TOGETHER or len(same), TOGETHER)]",
        "in a loop that is computed in pieces, parameters beyond the last whole eight keep their values",
    ),
    Mistake(
        "pieces-for-ever", "stale state", "autograd/engine.py",
        "    tr.pieces = False\n    if tr.saving is not None:\n        flush(tr)  # what",
        "    if tr.saving is not None:\n        flush(tr)  # what",
        "after a loop in pieces, every other model's update is cut in pieces, too",
        added=True,
    ),
    Mistake(
        "tried-for-ever", "lost update", "runtime/program.py",
        "self.cold = max(0, cold - 1)",
        "self.cold = cold",
        "a program that was thought to be rare is never compiled, however often it runs",
    ),
    # --- simplification ---------------------------------------------------------------------------
    Mistake(
        "cast-forgets-sign", "missing condition", "rewrite/algebra.py",
        "if wide.category < narrow.category or (narrow.is_signed and not wide.is_signed):",
        "if wide.category < narrow.category:",
        "int8 to uint8 to int32 becomes int8 to int32, which keeps -1 where it should be 255",
        added=True,
    ),
    Mistake(
        "minus-negative-zero", "missing condition", "rewrite/algebra.py",
        "if is_positive_zero(c) or (is_negative_zero(c) and (b.loose_zeros or _never_negative_zero(x))):",
        "if is_positive_zero(c) or is_negative_zero(c):",
        "-0.0 - -0.0 is -0.0 instead of 0.0",
    ),
    Mistake(
        "where-in-where", "wrong operand", "rewrite/algebra.py",
        'return b.make("where", c, x, y.args[2])',
        'return b.make("where", c, x, y.args[1])',
        "where(c, x, where(c, y, z)) chooses y instead of z",
    ),
    Mistake(
        "permutations-composed-backwards", "wrong axis", "rewrite/movement.py",
        "attrs=tuple(x.attrs[p] for p in order))",
        "attrs=tuple(order[p] for p in x.attrs))",
        "two permutations of three or more axes are composed in the wrong order",
    ),
    Mistake(
        "slice-crosses-cat", "off-by-one cut", "rewrite/regions.py",
        "if start + (n - 1) * region.steps[axis] >= offsets[at + 1]:",
        "if start + (n - 1) * region.steps[axis] > offsets[at + 1]:",
        "a slice that reaches one element into the next part of a cat is taken from the first part alone",
        added=True,
    ),
    Mistake(
        "last-element-outside", "off-by-one cut", "rewrite/regions.py",
        "if last < t or s > end:",
        "if last <= t or s > end:",
        "a read that ends where a written region begins does not see the write",
    ),
    # --- schedule ---------------------------------------------------------------------------------
    Mistake(
        "nest-reads-its-future", "missing condition", "schedule/group.py",
        "if m == nest.id or self.units[m].preds & bit:",
        "if m == nest.id:",
        "a kernel is fused into one that has to run before what it reads exists",
    ),
    Mistake(
        "unchecked-index", "lost error", "schedule/group.py",
        'if source.prim.name in ("take", "position"):',
        'if source.prim.name in ("take",):',
        "an index out of range goes unnoticed where only a part of the result is used",
        added=True,
    ),
    Mistake(
        "product-of-transposed", "wrong axis", "schedule/places.py",
        "strides = [strides[p] for p in step.attrs]",
        "strides = [strides[step.attrs.index(p)] for p in range(len(strides))]",
        "matrix products read operands permuted along three axes with the inverse permutation",
        added=True,
    ),
    Mistake(
        "blocks-share-memory", "aliasing memory plan", "schedule/memory_plan.py",
        "placed = [p for p in placed if p[2] >= first]",
        "placed = [p for p in placed if p[2] > first]",
        "a kernel writes its result over an operand it still reads",
    ),
    # --- machine code -----------------------------------------------------------------------------
    Mistake(
        "tail-mask", "wrong mask tail", "codegen/nest.py",
        'return em.op(f"icmp sgt <{self.lanes} x i32>',
        'return em.op(f"icmp sge <{self.lanes} x i32>',
        "reductions over lengths that are no multiple of the vector take in one element beyond the end",
    ),
    Mistake(
        "unrolled-mask", "wrong mask tail", "codegen/nest.py",
        'f"i1 {int(i < left)}" for i in range(self.lanes)',
        'f"i1 {int(i <= left)}" for i in range(self.lanes)',
        "the same for short rows, whose loop is written out",
    ),
    Mistake(
        "mask-not-reversed", "wrong mask tail", "codegen/accesses.py",
        'mask = self._reversed(f"<{lanes} x i1>", mask, lanes)',
        "pass",
        "rows read backwards under a mask lose elements at one end and read others at the other",
        added=True,
    ),
    Mistake(
        "argmax-of-lanes", "wrong comparison", "codegen/reductions.py",
        'earlier = em.op(f"icmp slt {positions} {b[1]}, {a[1]}")',
        'earlier = em.op(f"icmp sgt {positions} {b[1]}, {a[1]}")',
        "argmax of equal elements in different lanes is the last instead of the first",
    ),
    Mistake(
        "rows-added-twice", "lost mask", "codegen/gemm_tile.py",
        "first_row = \"0\"\n        if shape.m % self.rows:",
        "first_row = \"0\"\n        if shape.m % self.rows and not self.blocked:",
        "products with a long inner dimension add partial sums of some rows twice",
    ),
    Mistake(
        "batch-as-rows", "missing condition", "codegen/gemm.py",
        "if batch > 1 and b_layout[0] == 0 and isinstance(apart, int) and (apart == m * a_layout[1] or m == 1):",
        "if batch > 1 and b_layout[0] == 0 and isinstance(apart, int):",
        "a batch of products with one right operand reads the wrong rows where the left matrices do not follow each other",
    ),
    Mistake(
        "lanes-left-unadded", "wrong operand", "codegen/gemm_dot.py",
        "(pick(kind, x, y, low + [width + i for i in low]), pick(kind, x, y, high + [width + i for i in high]))",
        "(pick(kind, x, y, low + [width + i for i in low]), pick(kind, x, y, high + [width + i for i in low]))",
        "every second result of a linear layer adds half of its terms twice and leaves out the others",
    ),
    Mistake(
        "last-terms-unmasked", "lost mask", "codegen/gemm_dot.py",
        "return step(str(whole), static_mask(lanes, k % lanes), sums) if k % lanes else sums",
        "return step(str(whole), None, sums) if k % lanes else sums",
        "linear layers whose inputs do not fill registers add products of the elements behind each row",
    ),
    Mistake(
        "no-room-before-panel", "too small a buffer", "codegen/gemm_strips.py",
        "memory = element_address(em, shape, memory, str(shape.lanes * width))",
        "memory = element_address(em, shape, memory, str(shape.lanes // 4 * width))",
        "large products write in front of a worker's memory where a transposed right operand ends with a short block of k",
    ),
    Mistake(
        "panel-of-other-strip", "stale cache", "codegen/gemm_strips.py",
        "column = tile_start(em, strip, width, shape.n)",
        "column = times(em, strip, width)",
        "the last strip of a large product is multiplied by columns behind the end of the right operand",
    ),
    Mistake(
        "called-with-operands-exchanged", "wrong operand", "codegen/vecmath.py",
        'given = ", ".join([f"{kind} {x}" for x in names])',
        'given = ", ".join([f"{kind} {x}" for x in reversed(names)])',
        "a small program that raises to a power more than four times takes y ** x in place of x ** y",
    ),
    Mistake(
        "random-key", "wrong constant", "codegen/scalars.py",
        "(k1, 0xBB67AE85)",
        "(k1, 0x9E3779B9)",
        "compiled random numbers are others than those of the reference",
    ),
    Mistake(
        "turns-forgotten", "lost partial results", "codegen/accesses.py",
        'if root.kind == "column" or self.turn:',
        'if root.kind == "column" and not self.turn:',
        "sums over long leading axes keep only the last eight rows of each piece",
    ),
    Mistake(
        "many-for-one-place", "missing condition", "codegen/tiling.py",
        'return lanes if all(self._is_adjacent(r.place) for r in self.roots if r.kind == "scatter") else 1',
        "return lanes",
        "index_add with one index repeated counts one value of sixteen",
    ),
    Mistake(
        "taps-beyond-the-row", "off-by-one bound", "codegen/conv_taps.py",
        "min(end, p.sizes[-1] - at) - first)",
        "end - first)",
        "gradients of the weights of padded convolutions with few channels multiply what lies beside a row",
    ),
    Mistake(
        "a-row-beyond-the-image", "off-by-one bound", "codegen/conv_windows.py",
        'return em.op(f"icmp ult i64 {plus(em, base, str(place))}, {axis.size}")',
        'return em.op(f"icmp ule i64 {plus(em, base, str(place))}, {axis.size}")',
        "depthwise convolutions of large padded images take the row behind the last for a part of the image",
    ),
    Mistake(
        "taps-of-the-next-row", "missing condition", "codegen/conv_depth_weights.py",
        "mask = None if columns.size == shape.lanes else static_mask(shape.lanes, columns.size)",
        "mask = None if columns.asked else static_mask(shape.lanes, columns.size)",
        "gradients of the weights of depthwise convolutions read beyond the end of a row",
    ),
    Mistake(
        "groups-of-the-next-pixel", "missing condition", "codegen/conv_groups.py",
        "self._unit(rest, tile_start(em, lanes, plan.lanes, p.groups))",
        "self._unit(rest, times(em, lanes, plan.lanes))",
        "where channels come last and are no multiple of a register, the last ones are written over those of the next pixel",
    ),
    Mistake(
        "vectors-that-overlap-in-place", "missing condition", "codegen/tiling.py",
        "return not (self.cols or self.tile or self.scatter) and self.n_vec % self.lanes == 0",
        "return not (self.cols or self.tile or self.scatter)",
        "large updates of a length that is no multiple of a register are applied twice to the last elements",
    ),
    Mistake(
        "in-place-before-it-is-read", "wrong order", "runtime/scheduled.py",
        "if last[i] is unit and not unchecked]",
        "if not unchecked]",
        "a product reads a parameter that has been updated already",
    ),
    Mistake(
        "updated-after-a-bad-index", "lost condition", "codegen/nest.py",
        "self.stops = bool(self.replaced) and checked",
        "self.stops = False",
        "a training step with a target out of range raises an error and changes the parameters anyway",
    ),
    # --- runtime ----------------------------------------------------------------------------------
    Mistake(
        "overwritten-though-known", "missing condition", "runtime/in_place.py",
        "if buffer.pooled and getrefcount(buffer) == _HELD + others + 1 and getrefcount(buffer.mem) == _UNSHARED:",
        "if buffer.pooled:",
        "a copy made of a large tensor before it was changed in place shows the change",
    ),
    Mistake(
        "failed-write-undoes-others", "lost state", "trace/ending.py",
        "for who, old, new in reversed(tr.trail):",
        "for who, old, new in ():",
        "an index out of range in an assignment undoes earlier changes of the tensor, or leaves it unreadable",
    ),
    Mistake(
        "operands-given-away", "aliasing memory plan", "runtime/scheduled.py",
        "for n in unit.reads:\n                    touch(n, at)",
        "pass",
        "operands of a matrix product or a NumPy step may be overwritten before it reads them",
    ),
    Mistake(
        "arrays-overwritten", "buffer in two hands", "runtime/memory.py",
        "if (\n                list(map(getrefcount, ready)) != self.idle\n"
        "                or list(map(getrefcount, map(_memory, ready))) != self.idle_mem\n            ):",
        "if list(map(getrefcount, ready)) != self.idle:",
        "an array that a user made of a result changes when the program runs again",
    ),
    Mistake(
        "code-of-another-machine", "missing part of a key", "runtime/jit.py",
        "            self.target,\n            _RELOCATION,",
        "            _RELOCATION,",
        "machine code on disk made for one instruction set is loaded under another",
        added=True,
    ),
    Mistake(
        "size-of-another-kernel", "missing condition", "runtime/sizes.py",
        "return self.groups if all([numbers[p] == numbers[group[0]] for group in self.groups for p in group]) else None",
        "return self.groups",
        "a kernel for two sizes that were equal so far is taken for others, of which one is read for both",
    ),
    Mistake(
        "size-left-in-the-text", "missing condition", "runtime/sizes.py",
        "if any([n != m and place not in read for",
        "if any([n != m and place not in read and place < 0 for",
        "a kernel for batches of several lengths is taken for rows of another width",
    ),
    Mistake(
        "plan-of-old-sources", "missing part of a key", "runtime/plan_cache.py",
        "l2_bytes(), _package())",
        "l2_bytes())",
        "after a change of the library a process runs programs as the old one made them",
    ),
    Mistake(
        "plan-of-another-dtype", "missing part of a key", "trace/lower.py",
        "form.append((s.prim, args, attrs, aval, compute,",
        "form.append((s.prim, args, attrs, aval, None,",
        "a new process computes in the precision in which an earlier one computed something else",
    ),
    Mistake(
        "plan-of-other-numbers", "missing part of a key", "trace/lower.py",
        "form.append(tuple([(s.scalars_before + k, dtype.name) for",
        "form.append(tuple([(k, dtype.name) for",
        "a new process uses the run-time numbers of other operations than those it was given for",
    ),
    Mistake(
        "last-block-not-awaited", "race", "runtime/pool.py",
        "%done = icmp eq i64 %left, 0",
        "%done = icmp sle i64 %left, 1",
        "a program goes on while a worker still writes the last block of a kernel",
    ),
    # --- traces -----------------------------------------------------------------------------------
    Mistake(
        "two-is-true", "missing part of a key", "trace/macro.py",
        "return type(value), value",
        "return value",
        "a function called with 1 takes the program recorded for True or 1.0",
        added=True,
    ),
    Mistake(
        "results-by-place", "missing part of a key", "trace/native_end.py",
        "%p = icmp eq i64 %slot, %slot.wanted",
        "%p = icmp eq i64 %slot, %slot",
        "a tensor updated in place is given the value of another, where the same was recorded before with a new name",
    ),
    Mistake(
        "element-into-held-memory", "buffer in two hands", "trace/native_elements.py",
        "%two = icmp eq i32 %counted, 2",
        "%two = icmp ne i32 %counted, 0",
        "what is pending sees a number that was written after it was recorded",
    ),
    Mistake(
        "read-view-forgotten", "stale view", "trace/native_views.py",
        "  %e = call i32 %enter(ptr %stale.now, ptr %key, ptr %ref)",
        "  %e = add i32 0, 0",
        "an element that was read as a number keeps its value when its base changes",
    ),
    Mistake(
        "held-view-taken-back", "lost value", "trace/native_views.py",
        "br i1 %v.held, label %no, label %goes",
        "br i1 false, label %no, label %goes",
        "a view on the way to an element that was read loses its place in the trace, though somebody holds it",
    ),
    Mistake(
        "ready-though-held", "buffer in two hands", "trace/native_end.py",
        "br i1 %held, label %back, label %memory",
        "br i1 false, label %back, label %memory",
        "a result that is held is overwritten by one of a later turn of its loop",
    ),
    Mistake(
        "ready-though-seen", "buffer in two hands", "trace/native_end.py",
        "br i1 %seen, label %back, label %alone",
        "br i1 false, label %back, label %alone",
        "an array that NumPy was given is overwritten by a result of a later turn of the loop",
    ),
    Mistake(
        "base-of-a-view", "lost value", "compiler/learn.py",
        "        everything |= {id(t._base): t._base for t in [*everything.values()] if t._base is not None}\n",
        "",
        "a compiled call's writes through a view are lost where its base was computed just before",
    ),
    Mistake(
        "strides-of-another", "missing part of a key", "trace/recorder.py",
        "    key = (prim, *slots, attrs, requires_grad, strides)",
        "    key = (prim, *slots, attrs, requires_grad)",
        "a detached part of memory that NumPy sees has the strides of another part of it",
    ),
    Mistake(
        "handle-of-another-thread", "lost value", "trace/ending.py",
        "            and (h._tid == tid or h._tid == -tid)  # not one that another thread has changed since\n",
        "",
        "a tensor that another thread has changed is given a value of the trace that made it",
    ),
    Mistake(
        "place-beyond-64-bits", "wrong place", "trace/native_elements.py",
        "br i1 %fits, label %turn, label %no",
        "br i1 %fits, label %turn, label %turn",
        "x[2**70] = 1 writes the last element",
    ),
    Mistake(
        "reads-unnoticed", "stale result", "trace/recorder.py",
        "    if data is None or local.trace.watch is not None:\n        data = realize(t)",
        "    if data is None:\n        data = realize(t)",
        "a compiled function goes on with a number that it once read out of a tensor",
    ),
    Mistake(
        "another-update", "stale result", "optim/optimizer.py",
        "return self.choose_rule(group), self.tensors(group), self.switches(group)",
        "return self.choose_rule(group), self.switches(group)",
        "a compiled training step does not notice that RMSprop was given a momentum",
    ),
    Mistake(
        "parameters-as-tensors", "stale result", "compiler/calls.py",
        "        if kind is not Tensor:\n            shape.append(kind)",
        "        if kind is not Tensor:\n            pass",
        "a compiled function takes a Parameter for the Tensor it was called with before",
    ),
    Mistake(
        "gradient-as-argument", "stale result", "compiler/known.py",
        "if not (places.keys().isdisjoint(grads) and {*ids}.isdisjoint(grads)):",
        "if False:",
        "a compiled function returns its argument for the gradient that the argument once was",
    ),
    Mistake(
        "copy-of-other-weights", "wrong operand", "runtime/scheduled.py",
        'scratch = ("copy", unit.layouts[made.copied][0], phases[0].text)',
        'scratch = ("copy", None, phases[0].text)',
        "two products of one size share the copy of the right operand of the first",
    ),
    Mistake(
        "facts-of-another-step", "wrong order", "runtime/facts.py",
        "    graph, order, stored = steps_of(graph)\n",
        "    graph, order, stored = steps_of(graph)\n    order = sorted(order, key=lambda unit: unit.id)\n",
        "kernels of a profile have the shapes and operations of others, where updates were put off",
    ),
    Mistake(
        "tile-taken-twice", "missing case", "codegen/epilogue.py",
        "width, exact = self.offer.width, self.offer.exact or bool(self.replaced)",
        "width, exact = self.offer.width, self.offer.exact",
        "where tiles of a product overlap, what is added to a tensor in place is added twice",
    ),
    Mistake(
        "product-lost-to-a-tile", "missing condition", "schedule/epilogues.py",
        "unit.layouts and wanted[unit.node] == 1",
        "unit.layouts and wanted[unit.node] > 0",
        "a product that is also read by something else is nowhere in memory",
    ),
    Mistake(
        "nests-of-other-constants", "lost part of a key", "codegen/known.py",
        "return kind.__name__, repr(x)",
        "return kind.__name__",
        "two layers that differ in a number are computed with the number of the first",
    ),
    Mistake(
        "memory-of-another", "buffer in two hands", "trace/views.py",
        "    elif tr.flush_after:  # the value is memory that NumPy shares, and may change\n        flush(tr)",
        "    elif False:\n        pass",
        "a large tensor copied from memory that NumPy sees changes with it",
    ),
    Mistake(
        "updated-leaf-goes-on", "missing cut", "trace/many.py",
        "t._tid = -tid if t._leaf and t._aval.requires_grad else tid",
        "t._tid = tid",
        "after an optimizer step the next forward pass continues the update, so that leaves get no gradient",
    ),
    Mistake(
        "hooks-not-in-key", "missing part of a key", "trace/recorder.py",
        'if kind != "input" or origin is not None or t._hooks is not None:',
        'if kind != "input" or origin is not None:',
        "a hook put on a parameter later is not called, because the backward without it is known",
    ),
    Mistake(
        "old-views-stay", "stale view", "trace/views.py",
        "for v in (*known, *[ref() for _, ref in fresh]):",
        "for v in known:",
        "a view made before the last read keeps the old value when its base is written",
    ),
    Mistake(
        "view-entered-nowhere", "lost value", "trace/ending.py",
        "            known = [*recent]\n",
        "            known = [*recent]\n            del recent[:]\n",
        "after an interrupt at the end of a trace a view keeps what its base was",
        added=True,
    ),
    Mistake(
        "mode-not-in-key", "missing part of a key", "trace/state.py",
        "self.default_dtype, self.lowered if lowered is ... else lowered, family)",
        "self.default_dtype, family)",
        "after a value was read, lines under autocast are taken for the same lines outside of it, or the reverse",
    ),
    Mistake(
        "permuted-write", "wrong axis", "trace/moves.py",
        "inverse[p] = i",
        "inverse[i] = p",
        "writing through a tensor permuted along three axes puts elements in the wrong place",
    ),
    Mistake(
        "results-in-wrong-order", "wrong order", "trace/ending.py",
        "order[k] = position",
        "order[position] = k",
        "three or more results held in an unusual order exchange their values",
    ),
    Mistake(
        "pinned-past-released", "liveness", "trace/ending.py",
        "tr.hist.release(reach_of(tr.node, keep + tr.hist.pinned))",
        "tr.hist.release(reach_of(tr.node, keep))",
        "in reference mode a tensor whose memory was handed to NumPy loses the gradient to what it was computed from earlier",
        added=True,
    ),
    Mistake(
        "present-for-past", "stale value", "trace/history.py",
        "if self.trace is None and original._data is buffer and original._escape is None:",
        "if self.trace is None and original._escape is None:",
        "a backward after an update uses the new value of a parameter instead of the one the forward pass saw",
    ),
    Mistake(
        "cut-between-results", "cut in the wrong place", "trace/recorder.py",
        'if prim != "pick" and (tr.node.boundary or',
        "if (tr.node.boundary or",
        "a long trace may end between a decomposition and the choice of one of its results, which is then lost",
    ),
    Mistake(
        "native-key-cut-short", "missing part of a key", "trace/native_code.py",
        "%e = and i1 %e01, %e2",
        "%e = and i1 %e01, %e01",
        "once recording is native, x * z takes the step of x * y",
    ),
    Mistake(
        "native-reads-shared-memory", "stale value", "trace/native_code.py",
        "%plain = icmp eq ptr %special, %false\n  br i1 %plain, label %value, label %slow",
        "%plain = icmp ne ptr %special, null\n  br i1 %plain, label %value, label %slow",
        "once recording is native, tensors with hooks, a past or shared memory are taken for plain ones",
    ),
    Mistake(
        "native-updated-leaf", "missing cut", "trace/native_rows.py",
        "%tid = select i1 %negative, ptr %minus, ptr %id",
        "%tid = select i1 %negative, ptr %id, ptr %id",
        "once recording is native, the forward pass after an optimizer step continues the update",
    ),
    Mistake(
        "native-row-of-another", "stale view", "trace/native_rows.py",
        "%same.number = call i1 @is_number(ptr %i, ptr %k.i)",
        "%same.number = icmp eq i1 true, true",
        "once recording is native, x[2] is the x[1] that was recorded at the same place before",
    ),
    Mistake(
        "native-place-of-another", "stale view", "trace/native_rows.py",
        "%same.tuple = icmp eq ptr %i, %k.i",
        "%same.tuple = icmp eq i1 true, true",
        "once recording is native, x[1, 2] is the x[0, 1] that was recorded at the same place before",
    ),
    Mistake(
        "place-written-beside-views", "stale view", "trace/views.py",
        "    point(t, keeping_gradient(t, value))\n    return True",
        "    keeping_gradient(t, value)\n    return True",
        "a tensor written to one place of a table is computed, and the table stays as it was",
    ),
    Mistake(
        "known-call-of-changed-code", "stale program", "compiler/quick_code.py",
        "%holds = call i1 %check.at(ptr %guard.at)",
        "%holds = icmp eq i1 true, true",
        "a native known call does not ask whether what the function reads is still the same",
    ),
    Mistake(
        "step-of-aliased-argument", "missing condition", "compiler/steps.py",
        "if len(seen) < self.distinct or not layout.places.keys().isdisjoint(seen):",
        "if False:",
        "a known training step whose argument is a tensor that it also finds elsewhere reads its value from before the call",
    ),
    Mistake(
        "step-beside-views", "missing condition", "compiler/steps.py",
        "if sources[k]._views is not None:",
        "if sources[k]._data is None:",
        "a known training step does not change the views of what it changes",
    ),
    Mistake(
        "known-call-writes-held-memory", "memory used twice", "compiler/quick_code.py",
        "%free = and i1 %once, %unseen",
        "%free = and i1 %once, true",
        "a result whose array outlives its tensor is overwritten by a later call",
    ),
    # --- what users call --------------------------------------------------------------------------
    Mistake(
        "slice-length", "off-by-one cut", "ops/index.py",
        "length = max(0, -(-(end - begin) // step))",
        "length = max(0, (end - begin) // step)",
        "x[0:5:2] has two elements",
    ),
    Mistake(
        "index-add-axis", "wrong axis", "ops/gather.py",
        'new = record("permute", (new,), (*range(1, axis + 1), 0, *range(axis + 1, rank)))',
        'new = record("permute", (new,), order)',
        "index_add and its like along the third axis or a later one return their result with axes exchanged",
        added=True,
    ),
    Mistake(
        "mean-without-self", "factor", "ops/gather.py",
        'count = count + 1 if include_self else record("where", (count == 0, 1, count))',
        'count = record("where", (count == 0, 1, count))',
        "scatter_reduce with mean does not count the element that was there",
    ),
    Mistake(
        "state-forgets-place", "offset", "ops/generators.py",
        "self._calls = calls",
        "self._calls = 0",
        "a restored generator starts from the beginning of its seed instead of where it was",
    ),
    # --- backward ---------------------------------------------------------------------------------
    Mistake(
        "retain-not-in-key", "missing part of a key", "autograd/engine.py",
        'key = ("backward", slots, len(roots), tuple(g is None for g in seeds), keep, create_graph)',
        'key = ("backward", slots, len(roots), tuple(g is None for g in seeds), create_graph)',
        "backward(retain_graph=True) frees the graph where the same program ran without, and the reverse",
        added=True,
    ),
    Mistake(
        "gradient-is-the-seed", "aliasing", "autograd/engine.py",
        "seen = {id(g) for g in taken if g is not None}",
        "seen = set()",
        "adding to .grad changes the tensor the caller gave to backward",
        added=True,
    ),
    Mistake(
        "gradient-in-a-flat-buffer", "lost write", "autograd/engine.py",
        "    if old._base is None:",
        "    if old is not None:",
        "gradients accumulated into views of one flat tensor do not reach it",
    ),
    Mistake(
        "sum-of-threads", "race", "autograd/engine.py",
        "if not several():\n        for leaf, g in pairs:",
        "if True:\n        for leaf, g in pairs:",
        "of several threads that call backward into one leaf, some lose what they add to its .grad",
    ),
    # --- libraries --------------------------------------------------------------------------------
    Mistake(
        "running-variance", "factor", "nn/functional/normalization.py",
        "unbias = count / (count - 1)",
        "unbias = 1.0",
        "batch norm keeps a running average of the biased variance",
    ),
    Mistake(
        "last-window", "off-by-one cut", "nn/functional/pooling.py",
        "return count - 1 if (count - 1) * stride >= size + padding else count",
        "return count - 1 if (count - 1) * stride > size + padding else count",
        "pooling with ceil_mode may begin a window behind the input",
    ),
    Mistake(
        "smooth-l1-offset", "factor", "nn/functional/losses.py",
        "torch.where(near, short * short * (0.5 / beta), distance - 0.5 * beta)",
        "torch.where(near, short * short * (0.5 / beta), distance - 0.5)",
        "smooth_l1_loss jumps where |x - y| = beta, unless beta is 1",
        added=True,
    ),
    Mistake(
        "adam-correction", "factor", "optim/adam.py",
        "rate, root = lr / (1 - beta1**clock), math.sqrt(1 - beta2**clock)",
        "rate, root = lr / (1 - beta1**clock), 1 - beta2**clock",
        "early steps of Adam are too small",
    ),
    Mistake(
        "nesterov-momentum", "factor", "optim/sgd.py",
        "p - lr * (g + momentum * buffer if nesterov else buffer)",
        "p - lr * (g + buffer if nesterov else buffer)",
        "SGD with Nesterov momentum steps too far",
        added=True,
    ),
    Mistake(
        "average-to-divide-by", "missing condition", "optim/optimizer.py",
        "small if eps is None else small & (eps > 0)",
        "small",
        "Adam with eps=0 makes parameters NaN whose gradient has long been zero",
    ),
]
