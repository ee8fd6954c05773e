"""Which dtypes each operation takes, and what comes out: the questions, asked of any module that speaks PyTorch.

`QUESTIONS` names operations on a tensor `x` of the dtype in question (2 by 2, or 3), an int64 tensor `i` and a float32
tensor `f`. `answer` runs one and gives the dtypes of its results or the kind of its exception.
"""

from __future__ import annotations

import warnings

DTYPES = (
    "bool uint8 int8 int16 int32 int64 uint16 uint32 uint64 float16 bfloat16 float32 float64 complex64 complex128"
).split()

UNARY = (
    "neg abs sign sqrt floor ceil trunc relu bitwise_not rsqrt exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos "
    "atan sinh cosh tanh asinh acosh atanh sigmoid erf erfc erfinv lgamma digamma logical_not isnan isinf isfinite round "
    "square reciprocal frac deg2rad rad2deg nan_to_num logit sum prod mean var std amax amin argmax argmin any all "
    "count_nonzero norm median max min clone detach nonzero unique isreal real imag conj angle"
).split()
BINARY = (
    "add sub mul div maximum minimum floor_divide remainder fmod atan2 eq ne lt le gt ge pow bitwise_and bitwise_or "
    "bitwise_xor logical_and logical_or logical_xor hypot copysign xlogy logaddexp heaviside isclose"
).split()
FURTHER = {
    "add number": "x + 2", "add float": "x + 2.5", "add bool": "x + True", "add complex": "x + 2j",
    "rsub number": "2 - x", "mul float": "x * 1.5", "div number": "x / 2", "rdiv number": "2 / x",
    "floor_divide number": "x // 2", "floor_divide float": "x // 1.5", "remainder number": "x % 2",
    "pow number": "x ** 2", "pow float": "x ** 0.5", "pow large": "x ** 2.5", "rpow number": "2 ** x", "rpow float": "2.5 ** x",
    "eq number": "x == 1", "lt float": "x < 1.5", "eq complex": "x == 1j", "and number": "x & 1", "invert": "~x",
    "shift left": "x << 1", "shift right": "x >> 1", "add int64": "x + i", "add float32": "x + f", "add 0-d float64": "x + torch.tensor(1.0, dtype=torch.float64)",
    "add 0-d complex": "x + torch.tensor(1j)", "mul 0-d int64": "x * torch.tensor(2)", "0-d add int64": "x[0, 0] + i", "0-d add float32": "x[0, 0] + f",
    "div trunc": "torch.div(x, x, rounding_mode='trunc')", "div floor": "torch.div(x, x, rounding_mode='floor')",
    "div trunc number": "torch.div(x, 2, rounding_mode='trunc')",
    "in-place add": "x.add_(x)", "in-place add number": "x.add_(1)", "in-place add float": "x.add_(1.5)", "in-place add complex": "x.add_(1j)",
    "in-place mul float32": "x.mul_(f)", "in-place div": "x.div_(2)", "in-place sub": "x.sub_(1)", "in-place pow": "x.pow_(2)", "in-place sqrt": "x.sqrt_()",
    "in-place floor_divide": "x.floor_divide_(2)", "in-place and": "x.bitwise_and_(x)", "in-place eq": "x.eq_(1)", "in-place fill": "x.fill_(1.5)",
    "in-place zero": "x.zero_()", "in-place copy": "x.copy_(f)", "in-place clamp": "x.clamp_(0, 1)", "in-place exp": "x.exp_()",
    "augmented": "exec('x += 1.5', {'x': x}) or x", "setitem": "exec('x[0] = 1', {'x': x}) or x", "setitem float": "exec('x[0] = 1.5', {'x': x}) or x",
    "sum dim": "x.sum(0)", "sum dtype": "torch.sum(x, dtype=torch.float64)", "mean dim": "x.mean(1)", "mean dtype": "torch.mean(x, dtype=torch.float32)",
    "max dim": "x.max(0)", "min dim": "x.min(0)", "median dim": "x.median(0)", "cumsum": "x.cumsum(0)", "cumprod": "x.cumprod(0)",
    "cummax": "x.cummax(0)", "logsumexp": "x.logsumexp(0)", "var dim": "x.var(0)", "norm p": "x.norm(1)", "amax dim": "x.amax(0)",
    "argmax dim": "x.argmax(0)", "any dim": "x.any(0)", "all dim": "x.all(0)", "aminmax": "torch.aminmax(x)",
    "clamp": "x.clamp(0, 1)", "clamp float": "x.clamp(0.5, 1.5)", "clamp tensor": "x.clamp(min=x)", "where": "torch.where(x == x, x, x)",
    "where number": "torch.where(x == x, x, 1)", "where float": "torch.where(x == x, x, 1.5)", "where float32": "torch.where(x == x, x, f)",
    "lerp": "torch.lerp(x, x, 0.5)", "addcmul": "torch.addcmul(x, x, x)", "addcdiv": "torch.addcdiv(x, x, x)", "add alpha": "torch.add(x, x, alpha=2)",
    "sub alpha": "torch.sub(x, x, alpha=2)", "add float alpha": "torch.add(x, x, alpha=2.5)", "mul self": "x * x", "sub operator": "x - x",
    "matmul": "x @ x", "mv": "x @ x[0]", "dot": "torch.dot(x[0], x[0])", "bmm": "torch.bmm(x[None], x[None])", "matmul float32": "x @ f", "outer": "torch.outer(x[0], x[0])",
    "addmm": "torch.addmm(x, x, x)", "einsum": "torch.einsum('ij,jk->ik', x, x)", "tensordot": "torch.tensordot(x, x, 1)",
    "sort": "x.sort()", "argsort": "x.argsort()", "topk": "x.topk(1)", "kthvalue": "x.kthvalue(1)", "bincount": "torch.bincount(x[0])", "histc": "torch.histc(x)",
    "cat": "torch.cat([x, x])", "cat float32": "torch.cat([x, f])", "cat int64": "torch.cat([x, i])", "stack": "torch.stack([x, x])", "stack int64": "torch.stack([x, i])", "index": "x[torch.tensor([0, 1])]",
    "mask": "x[x == x]", "as index": "torch.zeros(3)[x]", "gather": "x.gather(0, i * 0)", "gather by": "f.gather(0, x)", "take": "torch.take(x, i * 0)",
    "index_select": "x.index_select(0, torch.tensor([0]))", "scatter": "x.scatter(0, i * 0, x)", "scatter_add": "x.scatter_add(0, i * 0, x)",
    "index_add": "x.index_add(0, torch.tensor([0, 1]), x)", "masked_fill": "x.masked_fill(x == x, 1)", "masked_fill float": "x.masked_fill(x == x, 1.5)",
    "tril": "x.tril()", "flip": "x.flip(0)", "roll": "x.roll(1)", "trace": "x.trace()", "diag": "x.diag()", "kron": "torch.kron(x, x)", "diff": "torch.diff(x)", "cross": "torch.cross(torch.cat([x[0], x[0, :1]]), torch.cat([x[0], x[0, :1]]), dim=0)",
    "det": "torch.linalg.det(x)", "inv": "torch.linalg.inv(x + torch.eye(2) * 0 + torch.eye(2, dtype=x.dtype))", "qr": "torch.linalg.qr(x)", "svd": "torch.linalg.svd(x)", "eigh": "torch.linalg.eigh(x)", "eig": "torch.linalg.eig(x)", "eigvals": "torch.linalg.eigvals(x)", "cholesky": "torch.linalg.cholesky(torch.eye(2, dtype=x.dtype))", "solve": "torch.linalg.solve(torch.eye(2, dtype=x.dtype), x)",
    "softmax": "torch.softmax(x, 0)", "softmax dtype": "torch.softmax(x, 0, dtype=torch.float32)", "log_softmax": "torch.log_softmax(x, 0)",
    "relu function": "torch.nn.functional.relu(x)", "gelu": "torch.nn.functional.gelu(x)", "silu": "torch.nn.functional.silu(x)", "softplus": "torch.nn.functional.softplus(x)",
    "mse_loss": "torch.nn.functional.mse_loss(x, x)", "layer_norm": "torch.nn.functional.layer_norm(x, (2,))", "linear": "torch.nn.functional.linear(x, x)",
    "one_hot": "torch.nn.functional.one_hot(x)", "embedding": "torch.nn.functional.embedding(x, torch.ones(5, 2))", "pad": "torch.nn.functional.pad(x, (1, 1))", "dropout": "torch.nn.functional.dropout(x, 0.5)",
    "zeros_like": "torch.zeros_like(x)", "rand_like": "torch.rand_like(x)", "randn_like": "torch.randn_like(x)", "full_like": "torch.full_like(x, 2)", "eye": "torch.eye(2, dtype=x.dtype)",
    "rand": "torch.rand(2, dtype=x.dtype)", "randn": "torch.randn(2, dtype=x.dtype)", "randint": "torch.randint(5, (2,), dtype=x.dtype)", "arange": "torch.arange(3, dtype=x.dtype)", "linspace": "torch.linspace(0, 1, 3, dtype=x.dtype)", "uniform_": "x.uniform_()", "normal_": "x.normal_()", "random_": "x.random_()", "bernoulli": "torch.bernoulli(x)", "bernoulli_": "x.bernoulli_(0.5)", "randperm": "torch.randperm(3, dtype=x.dtype)", "multinomial": "torch.multinomial(x, 1)",
    "requires_grad": "x.requires_grad_()", "repr": "repr(x) and x", "tolist": "x.tolist() and x", "bool()": "bool(x[0, 0]) and x", "int()": "int(x[0, 0]) and x", "float()": "float(x[0, 0]) and x", "complex()": "complex(x[0, 0]) and x",
    "equal": "torch.equal(x, x) and x", "allclose": "torch.allclose(x, x) and x", "complex": "torch.complex(x, x)", "polar": "torch.polar(x, x)",
    "view_as_real": "torch.view_as_real(x)", "view_as_complex": "torch.view_as_complex(x)", "real attribute": "x.real", "imag attribute": "x.imag",
    **{"to " + d: f"x.to(torch.{d})" for d in DTYPES},
}  # fmt: skip
QUESTIONS = {name: f"torch.{name}(x)" for name in UNARY} | {name: f"torch.{name}(x, x)" for name in BINARY} | FURTHER


def answer(torch, question: str, dtype: str) -> str:
    """The dtypes of the results, or the name of the exception, of one question for one dtype."""
    x = torch.tensor([[1, 1], [1, 1]]).to(getattr(torch, dtype))
    names = {"torch": torch, "x": x, "i": torch.tensor([[1, 2], [3, 4]]), "f": torch.tensor([[1.0, 2], [3, 4]])}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = eval(QUESTIONS[question], names)
            if not isinstance(out, (tuple, list)):
                out = (out,)
            for t in out:
                t.tolist()
            return " ".join(str(t.dtype).removeprefix("torch.") for t in out)
    except Exception as error:
        return type(error).__name__.replace("_LinAlgError", "RuntimeError").replace("LinAlgError", "RuntimeError")


def row(torch, question: str) -> str:
    """All answers to a question in one line: answer: the dtypes that get it; `=` stands for the dtype itself."""
    groups: dict[str, list[str]] = {}
    for dtype in DTYPES:
        given = answer(torch, question, dtype)
        groups.setdefault(" ".join("=" if part == dtype else part for part in given.split()), []).append(dtype)
    return f"{question}: " + "; ".join(f"{given} <- {' '.join(found)}" for given, found in groups.items())


if __name__ == "__main__":  # python tests/ops/acceptance.py writes the table anew; look at the difference
    from pathlib import Path

    import adjoint

    lines = [row(adjoint, question) for question in QUESTIONS]
    Path(__file__).with_name("acceptance.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
