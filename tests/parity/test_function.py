"""User-defined functions against PyTorch: gradients, saved tensors, marks, errors."""
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
y = Sq.apply(x)
y.sum().backward()
[y, G(x)]
""",
"""
y = Sq.apply(x)
(y.grad_fn.name(), type(y.grad_fn).__name__, y.requires_grad, y.is_leaf)
""",
"""
g, = torch.autograd.grad(Sq.apply(x).sum(), x, create_graph=True)
torch.autograd.grad(g.sum(), x)
""",
"""
Sq.apply(torch.ones(2)).requires_grad
""",
"""
with torch.no_grad():
    r = Sq.apply(x).requires_grad
r
""",
"""
y = Sq.apply(x).sum()
y.backward()
y.backward()
""",
"""
y = Sq.apply(x)
y.sum().backward()
y.grad_fn.saved_tensors
""",
"""
Sq.forward(3)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a, k, b=None):
        ctx.k = k
        return a * k
    @staticmethod
    def backward(ctx, g):
        return (g * ctx.k, None, None)
A.apply(x, 3.0, None).sum().backward()
G(x)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a, k):
        ctx.k = k
        return a * k
    @staticmethod
    def backward(ctx, g):
        return g * ctx.k
A.apply(x, 3.0).sum().backward()
G(x)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        return a * 2
    @staticmethod
    def backward(ctx, g):
        return (g, g)
A.apply(x).sum().backward()
G(x)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        return a * 2
    @staticmethod
    def backward(ctx, g):
        return (g, None, None)
A.apply(x).sum().backward()
G(x)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        return a * 2
    @staticmethod
    def backward(ctx, g):
        return None
A.apply(x).sum().backward()
G(x)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        return a * 2
    @staticmethod
    def backward(ctx, g):
        return 3
A.apply(x).sum().backward()
G(x)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        return a * 2
    @staticmethod
    def backward(ctx, g):
        return g[:2]
A.apply(x).sum().backward()
G(x)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        return a * 2
    @staticmethod
    def backward(ctx, g):
        return g.expand(4, 3)
A.apply(x).sum().backward()
G(x)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        return a * 2
    @staticmethod
    def backward(ctx, g):
        return g.sum()
A.apply(x).sum().backward()
G(x)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        return a * 2
    @staticmethod
    def backward(ctx, g):
        return g.float()
A.apply(x).sum().backward()
G(x)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return (a * b, a + b)
    @staticmethod
    def backward(ctx, g, h):
        a, b = ctx.saved_tensors
        return (g * b + h, g * a + h)
p, q = A.apply(x, w)
(p.sum() * 2 + q.sum()).backward()
[p, q, G(x, w), type(A.apply(x, w)).__name__]
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return (a * b, a + b)
    @staticmethod
    def backward(ctx, g, h):
        a, b = ctx.saved_tensors
        return (g * b + h, g * a + h)
p, q = A.apply(x, w)
p.sum().backward()
[G(x, w), p.output_nr, q.output_nr, p.grad_fn is q.grad_fn]
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a, b):
        ctx.set_materialize_grads(False)
        return (a * 2, b * 3)
    @staticmethod
    def backward(ctx, g, h):
        return (None if g is None else g * 2, None if h is None else h * 3)
p, q = A.apply(x, w)
q.sum().backward()
G(x, w)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        r = a * 2
        s = a > 1
        ctx.mark_non_differentiable(s)
        return (r, s)
    @staticmethod
    def backward(ctx, g, h):
        return g * 2 + h.sum()
p, q = A.apply(x)
p.sum().backward()
[G(x), p.requires_grad, q.requires_grad, q]
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        r = a * 2
        s = a * 3
        ctx.mark_non_differentiable(s)
        return (r, s)
    @staticmethod
    def backward(ctx, g, h):
        return g * 2 + h.sum()
p, q = A.apply(x)
p.sum().backward()
[G(x), p.requires_grad, q.requires_grad, q]
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        return (a * 2, 5, 'x', None)
    @staticmethod
    def backward(ctx, g, *rest):
        assert len(rest) == 3
        return g * 2
p, *q = A.apply(x)
p.sum().backward()
[G(x), q]
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        return [a * 2, a * 3]
    @staticmethod
    def backward(ctx, g, h):
        return g * 2 + h * 3
r = A.apply(x)
type(r).__name__
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        return 5
    @staticmethod
    def backward(ctx, g):
        return g
A.apply(x)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        a.add_(1)
        ctx.mark_dirty(a)
        return a
    @staticmethod
    def backward(ctx, g):
        return g
y = x * 1
z = A.apply(y)
z.sum().backward()
[G(x), z, z is y, y.grad_fn.name(), y._version]
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        a.add_(1)
        ctx.mark_dirty(a)
        return a
    @staticmethod
    def backward(ctx, g):
        return g
A.apply(x)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        a.mul_(3)
        ctx.mark_dirty(a)
        return a
    @staticmethod
    def backward(ctx, g):
        return g * 3
y = x * 1
z = y * w
A.apply(y)
z.sum().backward()
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        a.mul_(3)
        ctx.mark_dirty(a)
        return a
    @staticmethod
    def backward(ctx, g):
        return g * 3
y = x * 1
v = y[:2]
z = A.apply(v)
(y * y).sum().backward()
[G(x), y, v]
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        a.mul_(3)
        ctx.mark_dirty(a)
        return a
    @staticmethod
    def backward(ctx, g):
        return g * 3
y = torch.ones(3, dtype=D)
z = A.apply(y)
[z is y, z.requires_grad]
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        return a
    @staticmethod
    def backward(ctx, g):
        return g * 7
y = A.apply(x)
y.sum().backward()
[G(x), y is x, y.grad_fn.name()]
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        return a.view(3, 1)
    @staticmethod
    def backward(ctx, g):
        return g.view(3) * 7
y = A.apply(x)
y.sum().backward()
[G(x), y]
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        r = a.exp()
        ctx.save_for_backward(r)
        return r
    @staticmethod
    def backward(ctx, g):
        r, = ctx.saved_tensors
        return g * r
g, = torch.autograd.grad(A.apply(x).sum(), x, create_graph=True)
h, = torch.autograd.grad(g.sum(), x)
[g, h]
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        r = a.exp()
        ctx.save_for_backward(r)
        return r
    @staticmethod
    def backward(ctx, g):
        r, = ctx.saved_tensors
        return g * r
y = A.apply(x)
y.add_(1)
y.sum().backward()
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a, None)
        return a * 2
    @staticmethod
    def backward(ctx, g):
        a, n = ctx.saved_tensors
        return g * 2 if n is None else None
A.apply(x).sum().backward()
G(x)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a, 3)
        return a * 2
    @staticmethod
    def backward(ctx, g):
        return g
A.apply(x)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a, b):
        ctx.seen = ctx.needs_input_grad
        return a + b
    @staticmethod
    def backward(ctx, g):
        assert ctx.needs_input_grad == (True, False)
        return (g, None)
A.apply(x, w.detach()).sum().backward()
G(x)
""",
"""
class A(F):
    @staticmethod
    def forward(a, k):
        return a * k
    @staticmethod
    def setup_context(ctx, inputs, output):
        a, k = inputs
        ctx.k = k
        ctx.save_for_backward(a, output)
    @staticmethod
    def backward(ctx, g):
        a, o = ctx.saved_tensors
        return (g * ctx.k + o * 0, None)
y = A.apply(x, 3)
y.sum().backward()
[G(x), y]
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        return a * 2
A.apply(x).sum().backward()
""",
"""
class A(F):
    @staticmethod
    def backward(ctx, g):
        return g
A.apply(x)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        return a * 2
    @staticmethod
    def vjp(ctx, g):
        return g * 2
A.apply(x).sum().backward()
G(x)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        raise KeyError('oops')
A.apply(x)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        return a * 1
    @staticmethod
    def backward(ctx, g):
        raise KeyError('oops')
A.apply(x).sum().backward()
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        ctx.a = a
        return a * a
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * ctx.a * g
g, = torch.autograd.grad(A.apply(x).sum(), x, create_graph=True)
g.requires_grad
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        ctx.a = a
        return a * a
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * ctx.a * g
g, = torch.autograd.grad(A.apply(x).sum(), x, create_graph=True)
g.sum().backward()
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        with torch.enable_grad():
            b = a.detach().requires_grad_()
            c = (b ** 3).sum()
        ctx.save_for_backward(torch.autograd.grad(c, b)[0])
        return c.detach()
    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]
A.apply(x).backward()
G(x)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        y = a * 1
        return (y, y.view(-1))
    @staticmethod
    def backward(ctx, g, h):
        return g + h
p, q = A.apply(x)
(p + 2 * q).sum().backward()
G(x)
""",
"""
class A(F):
    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return a * 2
    @staticmethod
    def backward(ctx, g):
        ctx.saved_tensors
        return g * 2
y = x * 1
z = A.apply(y)
y.add_(1)
z.sum().backward()
""",
"""
class Bad(F):
    @staticmethod
    def forward(ctx, a):
        return a * 2
    @staticmethod
    def backward(ctx, g):
        return g * 3
torch.autograd.gradcheck(Bad.apply, x, raise_exception=False)
""",
"""
class Bad(F):
    @staticmethod
    def forward(ctx, a):
        return a * 2
    @staticmethod
    def backward(ctx, g):
        return g * 3
try:
    torch.autograd.gradcheck(Bad.apply, x)
except Exception as e:
    r = (type(e).__name__, str(e).split('\\n')[0])
r
""",
]


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_block(same, block):
    same(block, SETUP)
