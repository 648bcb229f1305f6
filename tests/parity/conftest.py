"""One piece of code, two frameworks: what it gives in tritium must be what it gives in PyTorch."""
import ast
import math
import re
import warnings

import numpy as np
import pytest

TOLERANCE = {"float64": 1e-10, "float32": 2e-5, "float16": 2e-3, "bfloat16": 1.6e-2, "complex64": 2e-5,
             "complex128": 1e-10}


class Seen:
    """What can be seen of a tensor: dtype, shape, strides, place in the graph, values."""

    def __init__(self, t):
        self.dtype = str(t.dtype).rpartition(".")[2]
        self.shape = tuple(t.shape)
        # along a dimension of size 1, and in an empty tensor, no step is ever taken
        pairs = zip(t.stride(), t.shape, strict=True)
        self.strides = () if 0 in self.shape else tuple(s if n != 1 else 1 for s, n in pairs)
        self.requires_grad = t.requires_grad
        self.node = type(t.grad_fn).__name__ if t.grad_fn is not None else None
        d = t.detach()
        wide = {"bfloat16": "float32", "float16": "float32"}.get(self.dtype)
        d = d.clone() if wide is None else d.to(getattr(_frame(t), wide))
        self.values = np.array(d.cpu().numpy())

    def __repr__(self):
        flags = "" if self.node is None else f" {self.node}"
        return f"{self.dtype}{list(self.shape)} strides {self.strides}{flags} {self.values.tolist()}"


def _frame(t):
    import tritium

    return tritium if isinstance(t, tritium.Tensor) else __import__("torch")


def see(x):
    """A description of a result that can be compared across the frameworks."""
    if hasattr(x, "grad_fn") and hasattr(x, "numpy"):
        return Seen(x)
    if isinstance(x, BaseException):
        return x
    if isinstance(x, dict):
        return {k: see(v) for k, v in x.items()}
    if type(x).__name__ == "Size":
        return ("Size", *x)
    if isinstance(x, (list, tuple)):
        return [see(v) for v in x]
    if isinstance(x, (np.ndarray, np.generic)):
        return (type(x).__name__, str(x.dtype), np.asarray(x).tolist())
    if type(x).__name__ in ("dtype", "device", "memory_format", "layout"):
        return str(x).replace("tritium", "torch").replace("cuda:0", "cpu")
    if isinstance(x, str):
        return x.replace("tritium", "torch").replace("torch.cuda.", "torch.").replace("cuda:0", "cpu")
    if type(x).__name__ in ("finfo", "iinfo"):
        return repr(x)
    return x


def text_of(error):
    """The message of an error, without what differs for good reasons (the name of the framework, C++ traces)."""
    text = str(error).replace("tritium", "torch").replace("torch.cuda.", "torch.").replace("cuda:0", "cpu")
    text = text.split("\nException raised from")[0]
    return re.sub(r"\s+", " ", text).strip()


def differences(ours, theirs, options, where=""):
    """The first difference between two descriptions, or None."""
    if isinstance(theirs, BaseException) or isinstance(ours, BaseException):
        if type(ours).__name__ != type(theirs).__name__ and not (
                isinstance(theirs, BaseException) and isinstance(ours, type(theirs))):
            return f"{where}: {ours!r}, PyTorch: {theirs!r}"
        loose = options.get("text") == "any" or (isinstance(theirs, TypeError) and options.get("text") != "exact")
        if not loose and text_of(ours) != text_of(theirs):
            return f"{where}: {text_of(ours)!r}, PyTorch: {text_of(theirs)!r}"
        return None
    if isinstance(theirs, Seen):
        if not isinstance(ours, Seen):
            return f"{where}: {ours!r}, PyTorch: {theirs!r}"
        for name in ("dtype", "shape", "strides", "requires_grad", "node"):
            if name in options.get("skip", ()):
                continue
            if getattr(ours, name) != getattr(theirs, name):
                return f"{where}: {name} {getattr(ours, name)}, PyTorch: {getattr(theirs, name)}"
        tolerance = options.get("tolerance", TOLERANCE.get(theirs.dtype, 0))
        if "values" not in options.get("skip", ()) and not np.allclose(
                ours.values, theirs.values, tolerance, tolerance, equal_nan=True):
            return f"{where}: values {ours.values.tolist()}, PyTorch: {theirs.values.tolist()}"
        return None
    if isinstance(theirs, list) and isinstance(ours, list):
        if len(ours) != len(theirs):
            return f"{where}: {len(ours)} results, PyTorch: {len(theirs)}"
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            found = differences(a, b, options, f"{where}[{i}]")
            if found:
                return found
        return None
    if isinstance(theirs, float) and isinstance(ours, float):
        if ours == theirs or (math.isnan(ours) and math.isnan(theirs)) or math.isclose(
                ours, theirs, rel_tol=options.get("tolerance", 1e-6), abs_tol=1e-12):
            return None
        return f"{where}: {ours!r}, PyTorch: {theirs!r}"
    if type(ours) is not type(theirs) or ours != theirs:
        return f"{where}: {ours!r}, PyTorch: {theirs!r}"
    return None


def _run(code, framework, names):
    space = {"torch": framework, "np": np, **names}
    tree = ast.parse(code.strip())
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exec(compile(tree, "<case>", "exec"), space)
            if last is None:
                return None
            return see(eval(compile(ast.Expression(last.value), "<case>", "eval"), space))
        except Exception as error:
            return error


# What cannot be compared on cuda: memory shared with NumPy, and lines that name the CPU or show where a tensor is.
NAMES_THE_CPU = ("numpy", "np.as", "cpu", ".device", "is_cuda", "get_device", "Tensor'", "f'{", "'%s'")


def without_kernel(error):
    """Whether an error comes from an operation without a Triton kernel."""
    from tritium.kernels.array import NoKernel

    while error is not None and not isinstance(error, NoKernel):
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return error is not None


def check_same(code, setup="", **options):
    """Run ``code`` in both frameworks and compare the value of its last expression, or its error.

    Options: ``skip`` (of "dtype shape strides requires_grad node values"), ``tolerance``, ``text`` ("any" or
    "exact": TypeErrors are compared by type only unless "exact")."""
    import torch

    import tritium

    whole = setup + "\n" + code
    ours = _run(whole, tritium, {})
    on_cuda = tritium.get_default_device().type == "cuda"
    if on_cuda and any(word in code for word in NAMES_THE_CPU):
        return
    if isinstance(ours, BaseException) and without_kernel(ours):
        raise ours
    theirs = _run(whole, torch, {})
    if on_cuda and text_of(theirs) == "ZeroDivisionError":
        return  # as in PyTorch, integers are not divided by zero with an error on cuda
    found = differences(ours, theirs, options)
    assert found is None, f"{code.strip()}  {found}"


@pytest.fixture
def same_lines(may_be_missing):
    """``same_lines(lines, setup="", **options)``: every line is a piece of code that does the same in both."""

    def check(lines, setup="", **options):
        wrong, missing, right = [], [], 0
        for line in lines.strip().splitlines():
            try:
                check_same(line, setup, **options)
                right += 1
            except AssertionError as error:
                wrong.append(str(error))
            except NotImplementedError as error:
                if not may_be_missing(error):
                    raise
                missing.append(error)
        assert not wrong, "\n".join(wrong)
        if missing and not right:
            raise missing[0]

    return check


@pytest.fixture
def same():
    """``same(code, setup="", **options)``: the code does the same in both frameworks."""
    return check_same


@pytest.fixture
def compare_results():
    """``compare_results(ours, theirs, **options)``: the first difference between two results (or errors), or None."""
    return lambda ours, theirs, **options: differences(see(ours), see(theirs), {"skip": ("node",), **options})
