"""Jacobians, Hessians, products with them, gradcheck and ``Variable`` against PyTorch."""
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
f = lambda a: (a ** 3).sum()
torch.autograd.functional.hessian(f, x.detach())
""",
"""
torch.autograd.functional.jacobian(lambda a: a ** 2, x.detach())
""",
"""
torch.autograd.functional.jacobian(lambda a, b: (a * b, a.sum()), (x.detach(), w.detach()))
""",
"""
torch.autograd.functional.jacobian(lambda a: a.sum(), x.detach())
""",
"""
torch.autograd.functional.hessian(lambda a, b: (a * a * b).sum(), (x.detach(), w.detach()))
""",
"""
torch.autograd.functional.vjp(lambda a: a ** 2, x.detach(), torch.ones(3, dtype=D))
""",
"""
torch.autograd.functional.vjp(lambda a: (a ** 2).sum(), x.detach())
""",
"""
torch.autograd.functional.vjp(lambda a: a ** 2, x.detach())
""",
"""
torch.autograd.functional.jvp(lambda a: a ** 2, x.detach(), torch.ones(3, dtype=D))
""",
"""
x, w = (x.detach(), w.detach())
torch.autograd.functional.jvp(lambda a, b: (a * b, a + b), (x, w), (torch.ones(3, dtype=D), w))
""",
"""
torch.autograd.functional.jvp(lambda a: a ** 2, x.detach())
""",
"""
torch.autograd.functional.hvp(lambda a: (a ** 3).sum(), x.detach(), torch.ones(3, dtype=D))
""",
"""
torch.autograd.functional.vhp(lambda a: (a ** 3).sum(), x.detach(), torch.ones(3, dtype=D))
""",
"""
torch.autograd.functional.hessian(lambda a: a ** 2, x.detach())
""",
"""
torch.autograd.functional.jacobian(lambda a: a.detach(), x.detach())
""",
"""
torch.autograd.functional.jacobian(lambda a: a ** 2, x, create_graph=True).requires_grad
""",
"""
torch.autograd.functional.jacobian(lambda a: torch.ones(2), x.detach(), strict=True)
""",
"""
torch.autograd.gradcheck(lambda a: a ** 2, x)
""",
"""
torch.autograd.gradcheck(lambda a, b: a * b, (x, w))
""",
"""
torch.autograd.gradgradcheck(lambda a, b: a * b * b, (x, w))
""",
"""
torch.autograd.gradcheck(lambda a: a ** 2, x.detach())
""",
"""
v = torch.autograd.Variable(torch.ones(2))
[v, isinstance(v, torch.Tensor), v.requires_grad]
""",
"""
v = torch.autograd.Variable(torch.ones(2), requires_grad=True)
[v, isinstance(v, torch.autograd.Variable), isinstance(torch.ones(1), torch.autograd.Variable)]
""",
"""
v = torch.autograd.Variable([1])
v
""",
"""
t = torch.ones(2)
v = torch.autograd.Variable(t)
v.add_(1)
[t, v is t]
""",
"""
[torch.autograd.graph.get_gradient_edge(x * 2).output_nr, torch.autograd.graph.get_gradient_edge(x * 2).node.name()]
""",
"""
torch.autograd.graph.get_gradient_edge(torch.ones(2))
""",
"""
with torch.autograd.set_detect_anomaly(True):
    (x * 2).sum().backward()
G(x)
""",
"""
y = x
for i in range(2000):
    y = y * 1.001
y.sum().backward()
G(x)
""",
]


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_block(same, block):
    same(block, SETUP)
