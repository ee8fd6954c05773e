"""What is wrong with the arguments of a call, found after it failed.

Functions do not test the types of their arguments before they work: that would cost time in every good call. They
fail somewhere inside, and `mistake_in` compares the arguments with the function's annotations, to say in the caller's
words which of them is wrong. `checked` makes that the behaviour of a public function; composites (`trace.macro`)
compare when they are first recorded with arguments of these types, and then never again.
"""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from adjoint.dtypes import DType
from adjoint.trace import autocast
from adjoint.trace.handle import Tensor
from adjoint.trace.state import _package, local
from adjoint.trace.trie import Scope

RAISE = dis.opmap["RAISE_VARARGS"]
MISHAPS = (ValueError, IndexError, OverflowError, ZeroDivisionError, MemoryError)  # where PyTorch says RuntimeError


class OutOfMemory(RuntimeError, MemoryError):
    """Memory ran out: a MemoryError as Python has it, and the RuntimeError that PyTorch raises."""


# Functions of several steps that are one node in PyTorch's graph. Only those whose steps no other function records alike.
NODES = {
    "clamp": "ClampBackward1", "stack": "StackBackward0",
    "tril": "TrilBackward0", "triu": "TriuBackward0", "repeat": "RepeatBackward0", "tile": "RepeatBackward0",
    "roll": "RollBackward0", "addmm": "AddmmBackward0", "addmv": "AddmvBackward0", "baddbmm": "BaddbmmBackward0",
    "index_add": "IndexAddBackward0", "index_fill": "IndexFillBackward0", "addcmul": "AddcmulBackward0",
    "addcdiv": "AddcdivBackward0", "hypot": "HypotBackward0", "diag_embed": "DiagEmbedBackward0",
}  # fmt: skip
# Functions that would make something of a wrong argument: these look first.
TESTED_AHEAD = frozenset(
    "select triu tril eye linspace logspace randperm multinomial kthvalue histc flip tile logsumexp nan_to_num deg2rad "
    "rad2deg dropout alpha_dropout feature_dropout feature_alpha_dropout instance_norm solve_triangular multi_dot index_fill index_copy index_add scatter scatter_add full_like "
    "randint isclose allclose equal meshgrid cosine_similarity lerp prelu pad roll batch_norm leaky_relu "
    "hinge_embedding_loss take masked_scatter dist heaviside hypot logaddexp addcmul addcdiv polygamma "
    "stft istft hann_window hamming_window blackman_window bartlett_window kaiser_window".split()
)
# Functions so short that a wrapper would be felt: they explain failures themselves, in their slow paths.
UNWRAPPED = frozenset("add sub subtract div divide true_divide mul multiply pow sum matmul where square".split())
# Of macros that take `out`: what computes a call with it, by the function within.
writers: dict[Callable, Callable] = {}


def is_whole(x: Any) -> bool:
    """Whether something can stand for an int, as a NumPy integer or an integer tensor of one element can."""
    if isinstance(x, Tensor):
        return x._aval.size == 1 and not x._aval.dtype.is_floating_point
    return isinstance(x, (int, np.integer))


def is_number(x: Any) -> bool:
    if isinstance(x, Tensor):
        return x._aval.size == 1
    return isinstance(x, (bool, int, float, complex, np.number, np.bool_))


def all_of(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, (list, tuple)) and all(test(e) for e in x)


def either(*tests: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda x: any(test(x) for test in tests)


whole_or_several = either(is_whole, all_of(is_whole))
number_or_tensor = either(is_number, lambda x: isinstance(x, Tensor))
# annotation: (what PyTorch calls it, whether a value is one)
KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "Tensor": ("Tensor", lambda x: isinstance(x, Tensor)),
    "int": ("int", is_whole),
    "float": ("float", is_number),
    "Number": ("Number", is_number),
    "bool": ("bool", lambda x: isinstance(x, (bool, np.bool_, int))),
    "str": ("str", lambda x: isinstance(x, str)),
    "DType": ("torch.dtype", lambda x: isinstance(x, DType) or x in (bool, int, float)),
    "Sequence[Tensor]": ("tuple of Tensors", all_of(lambda x: isinstance(x, Tensor))),
    "Sequence[int]": ("tuple of ints", all_of(is_whole)),
    "tuple[int, ...]": ("tuple of ints", whole_or_several),
    "int | tuple[int, ...]": ("int or tuple of ints", whole_or_several),
    "int | Sequence[int]": ("int or tuple of ints", whole_or_several),
    "dim": ("int or tuple of ints", either(whole_or_several, lambda x: isinstance(x, Tensor))),  # max(x, y)
    "Tensor | float": ("Tensor or Number", number_or_tensor),
    "Tensor | Number": ("Tensor or Number", number_or_tensor),
}  # fmt: skip
# parameters that are annotated loosely, by their names
NAMES = {"dim": "dim", "axis": "int | Sequence[int]", "dims": "int | Sequence[int]", "keepdim": "bool"}


@functools.cache
def expectations(function: Callable) -> tuple[inspect.Signature, dict[str, tuple[str, Callable[[Any], bool]]]]:
    """The signature, and of each parameter what is expected, where its annotation says it."""
    signature = inspect.signature(function)
    expected = {}
    for p in signature.parameters.values():
        text = p.annotation if isinstance(p.annotation, str) else getattr(p.annotation, "__name__", "Any")
        optional = text.endswith(" | None") or p.default is None
        text = text.removesuffix(" | None")
        if p.name == "reduction":
            text = "Any"  # the functions say which words they know, by ValueError as in PyTorch
        if text == "Any":
            text = NAMES.get(p.name, "Any")
            optional = True
        if text in KINDS:
            word, test = KINDS[text]
            expected[p.name] = (word, either(test, lambda x: x is None) if optional else test)
    return signature, expected


def before_the_call(function: Callable) -> tuple[tuple[Callable[[Any], bool] | None, ...], dict[str, Callable[[Any], bool]]]:
    """Tests of the arguments by position (as far as they are positional) and by name."""
    signature, expected = expectations(function)
    positional = []
    for p in signature.parameters.values():
        if p.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
            break
        positional.append(expected[p.name][1] if p.name in expected else None)
    return tuple(positional), {name: test for name, (_, test) in expected.items()}


def mistake_in(function: Callable, args: tuple, kwargs: dict, name: str | None = None) -> TypeError | None:
    """A TypeError that names the first argument of the wrong type, or says that there are too many or unknown ones."""
    name = name or function.__name__
    try:
        signature, expected = expectations(function)
    except (TypeError, ValueError):  # no signature to be had
        return None
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        if "out" in kwargs and "out" not in signature.parameters:
            return TypeError(f"{name}() {error}: as in PyTorch it takes no out; write out.copy_({name}(...)) to put the result into memory that is there")
        return TypeError(f"{name}() {error}; it takes {name}{described(signature)}")
    for position, (parameter, value) in enumerate(bound.arguments.items()):
        kind = signature.parameters[parameter].kind
        if parameter in expected:
            word, test = expected[parameter]
            wrong = value if not isinstance(value, tuple) or kind is not inspect.Parameter.VAR_POSITIONAL else None
            if wrong is value and not test(value):
                return TypeError(
                    f"{name}(): argument '{parameter}' (position {position + 1}) must be {word}, not {shown(value)}"
                    + (mend(value) if "Tensor" in word else "")
                )
    return None


def described(signature: inspect.Signature) -> str:
    """The parameters, without annotations."""
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def shown(value: Any) -> str:
    """The type of a value, and a small one itself."""
    kind = type(value).__name__
    if isinstance(value, Tensor):
        return f"{kind} of shape {list(value._aval.shape)} and dtype {value._aval.dtype.name}"
    if value is None:
        return kind
    if isinstance(value, np.ndarray):
        return f"numpy.{kind} of shape {list(value.shape)}"
    if isinstance(value, (list, tuple)) and any(isinstance(v, Tensor) for v in value):
        return f"{kind} of [{', '.join(shown(v) for v in value[:4])}]"
    text = repr(value)
    return f"{kind} ({text})" if len(text) <= 60 else kind


def mend(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return "; convert it with torch.from_numpy() or torch.tensor()"
    if isinstance(value, (list, tuple, bool, int, float, np.number)):
        return "; wrap it with torch.tensor()"
    return ""


def explain(function: Callable, args: tuple, kwargs: dict, error: Exception, name: str | None = None) -> Exception:
    """The error to show for one that came out of a function: about its arguments if they are to blame."""
    found = mistake_in(function, args, kwargs, name)
    if found is not None:
        return found
    if isinstance(error, (AttributeError, StopIteration, KeyError, *MISHAPS)) and not on_purpose(error):
        given = ", ".join([shown(a) for a in args] + [f"{k}={shown(a)}" for k, a in kwargs.items()])
        if isinstance(error, MemoryError):
            return OutOfMemory(f"{name or function.__name__}(): not enough memory for ({given})")
        kind = RuntimeError if isinstance(error, MISHAPS) else TypeError
        return kind(f"{name or function.__name__}(): cannot take ({given}): {error}")
    return error


def on_purpose(error: Exception) -> bool:
    """Whether a `raise` of this package made the error, rather than an operation that failed on its operands."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return True
    code = trace.tb_frame.f_code
    return code.co_filename.startswith(_package) and code.co_code[trace.tb_lasti] == RAISE


def as_one_node(node: str, function: Callable) -> Callable:
    """A function whose steps `grad_fn` shows as one node, as PyTorch's does."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        tr = local.trace
        if tr.scope is not None:
            return function(*args, **kwargs)
        tr.scope = Scope(node, tr.node.slot)
        try:
            return function(*args, **kwargs)
        finally:
            tr.scope = None

    return call


# Other names that PyTorch's functions take for some of their arguments: NumPy's, and those of `swapaxes`.
OTHER_NAMES = {
    "axis": "dim", "keepdims": "keepdim", "x": "input", "a": "input", "x1": "input", "x2": "other", "axis0": "dim0", "axis1": "dim1",
}  # fmt: skip
LISTS = frozenset("size sizes shape dims repeats".split())  # what functions that take several ints call them, given as one list


@functools.cache
def _parameters(function: Callable) -> tuple[frozenset[str], int | None]:
    """The names of a function's parameters, and the place of those that are any number of ints."""
    parameters = inspect.signature(function).parameters.values()
    place = next((i for i, p in enumerate(parameters) if p.kind is p.VAR_POSITIONAL), None)
    return frozenset(p.name for p in parameters if p.kind is not p.VAR_POSITIONAL), place


def _respelled(function: Callable, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
    """The arguments of a call that failed since keywords have other names: `x.sum(axis=0)`, `torch.flip(x, dims=[0])`."""
    if OTHER_NAMES.keys().isdisjoint(kwargs) and LISTS.isdisjoint(kwargs):
        return None
    known, place = _parameters(function)
    new: dict[str, Any] = {}
    for key, value in kwargs.items():
        if key in LISTS and key not in known and place is not None and len(args) <= place:
            first = [kwargs.get("input", kwargs.get("x"))] if place > len(args) else []
            args = (*args, *first, value if isinstance(value, tuple | list) else (value,))
            new = {k: v for k, v in new.items() if k != "input"}
        else:
            name = OTHER_NAMES.get(key)
            new[name if name in known and key not in known else key] = value
    if place is not None and len(args) > place:
        new.pop("input", None)
    return None if len(new) == len(kwargs) and new.keys() == kwargs.keys() else (args, new)


def checked(function: Callable, name: str | None = None, into: Callable | None = None) -> Callable:
    """A public function whose failures are explained by its arguments where they are to blame.

    into: `ops.results.into`, which computes calls with the keyword `out`, for functions that are to take it. They do not
    name it; that is seen when the call has failed, so that other calls lose no time.
    """
    name = name or str(getattr(function, "__name__", ""))
    short = name.rpartition(".")[2]
    heeds = short in autocast.HEEDING
    if into is not None and hasattr(function, "explains"):
        writers[function.__wrapped__] = functools.partial(into, function, name)  # type: ignore[attr-defined]
    if name in UNWRAPPED or hasattr(function, "explains") or not inspect.isfunction(function):
        return autocast.under_autocast(short, function) if heeds else function

    if name in NODES:
        function = as_one_node(NODES[name], function)
    ahead = short in TESTED_AHEAD
    positional, named = before_the_call(function) if ahead else ((), {})

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            if ahead:
                for test, value in zip(positional, args, strict=False):
                    if test is not None and not test(value):
                        raise TypeError
                for key in kwargs:
                    if key in named and not named[key](kwargs[key]):
                        raise TypeError
            return autocast.run(short, function, args, kwargs) if heeds and autocast.used else function(*args, **kwargs)
        except Exception as error:
            other = _respelled(function, args, kwargs)
            if other is not None:
                failure = None
            elif into is None or "out" not in kwargs:
                explained = explain(function, args, kwargs, error, name)
                if explained is error:
                    raise
                failure = explained
            else:
                failure = None
        if failure is not None:
            raise failure
        if other is not None:
            return call(*other[0], **other[1])
        kwargs = {**kwargs}
        return into(call, name, kwargs.pop("out"), args, kwargs)  # type: ignore[misc]

    call.explains = True  # type: ignore[attr-defined]
    return call
