"""Grad modes as contexts and decorators against PyTorch, also on generators, after exceptions and in threads."""
import pytest

torch = pytest.importorskip("torch")

SETUP = """
D = torch.float64
F = torch.autograd.Function
x = torch.arange(1.0, 4, dtype=D, requires_grad=True)
w = torch.tensor([0.5, -1.0, 2.0], dtype=D, requires_grad=True)
def G(*ts):
    return [None if t.grad is None else t.grad.clone() for t in ts]
class Sq(F):

    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return a * a

    @staticmethod
    def backward(ctx, g):
        a, = ctx.saved_tensors
        return 2 * a * g
"""

BLOCKS = [
"""
torch.is_grad_enabled()
""",
"""
with torch.no_grad():
    a = torch.is_grad_enabled()
    with torch.enable_grad():
        b = torch.is_grad_enabled()
    c = torch.is_grad_enabled()
[a, b, c, torch.is_grad_enabled()]
""",
"""
try:
    with torch.no_grad():
        raise KeyError
except KeyError:
    pass
torch.is_grad_enabled()
""",
"""
@torch.no_grad()
def f(a):
    return (torch.is_grad_enabled(), (a * 2).requires_grad)
[f(x), torch.is_grad_enabled(), f.__name__]
""",
"""
@torch.no_grad
def f(a):
    return torch.is_grad_enabled()
[f(x), f.__name__]
""",
"""
@torch.enable_grad()
def f(a):
    return torch.is_grad_enabled()
with torch.no_grad():
    r = f(x)
r
""",
"""
@torch.set_grad_enabled(False)
def f(a):
    return torch.is_grad_enabled()
[f(x), torch.is_grad_enabled()]
""",
"""
torch.set_grad_enabled(False)
a = torch.is_grad_enabled()
torch.set_grad_enabled(True)
[a, torch.is_grad_enabled()]
""",
"""
with torch.set_grad_enabled(False):
    a = torch.is_grad_enabled()
[a, torch.is_grad_enabled()]
""",
"""
with torch.inference_mode():
    a = [torch.is_grad_enabled(), torch.is_inference_mode_enabled(), (x * 2).requires_grad]
    with torch.inference_mode(False):
        b = [torch.is_grad_enabled(), torch.is_inference_mode_enabled()]
    with torch.enable_grad():
        c = [torch.is_grad_enabled(), torch.is_inference_mode_enabled(), (x * 2).requires_grad]
[a, b, c, torch.is_grad_enabled(), torch.is_inference_mode_enabled()]
""",
"""
with torch.no_grad():
    with torch.inference_mode(False):
        a = torch.is_grad_enabled()
a
""",
"""
@torch.inference_mode()
def f():
    return torch.is_inference_mode_enabled()
@torch.inference_mode
def g():
    return torch.is_inference_mode_enabled()
[f(), g()]
""",
"""
@torch.no_grad()
def gen():
    yield torch.is_grad_enabled()
    r = (yield torch.is_grad_enabled())
    yield r
    return 5
g = gen()
out = [next(g), torch.is_grad_enabled(), next(g), g.send('s'), torch.is_grad_enabled()]
try:
    next(g)
except StopIteration as e:
    out.append(e.value)
out
""",
"""
@torch.no_grad()
def gen():
    try:
        yield 1
    except KeyError:
        yield torch.is_grad_enabled()
g = gen()
next(g)
g.throw(KeyError())
""",
"""
out = []
@torch.no_grad()
def gen():
    try:
        yield 1
    finally:
        out.append(torch.is_grad_enabled())
g = gen()
next(g)
g.close()
out + [torch.is_grad_enabled()]
""",
"""
@torch.no_grad()
def rec(n):
    return [torch.is_grad_enabled()] + (rec(n - 1) if n else [])
rec(3) + [torch.is_grad_enabled()]
""",
"""
import threading
out = []
with torch.no_grad():
    t = threading.Thread(target=lambda: out.append(torch.is_grad_enabled()))
    t.start()
    t.join()
    out.append(torch.is_grad_enabled())
out
""",
"""
class C:

    @torch.no_grad()
    def m(self, a):
        return (a * 2).requires_grad
C().m(x)
""",
"""
torch.set_grad_enabled(3)
""",
]


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_block(same, block):
    same(block, SETUP)
