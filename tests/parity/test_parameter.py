"""``Parameter`` against PyTorch: sharing, in-place changes, copies, types."""
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
p = torch.nn.Parameter(torch.ones(2))
[p, p.is_leaf, type(p).__name__, [isinstance(a, b) for a in (p, p * 1) for b in (torch.nn.Parameter, torch.Tensor)]]
""",
"""
p = torch.nn.Parameter(torch.ones(2), requires_grad=False)
[p, p.requires_grad]
""",
"""
torch.nn.Parameter(torch.ones(2, dtype=torch.int64))
""",
"""
torch.nn.Parameter(torch.ones(2, dtype=torch.int64), requires_grad=False)
""",
"""
t = torch.ones(2)
p = torch.nn.Parameter(t)
t.add_(1)
[p, p.data_ptr() == t.data_ptr(), p._version, t._version]
""",
"""
p = torch.nn.Parameter(torch.ones(2))
[type(a).__name__ for a in (p * 2, p[0], p.detach(), p.data, p.clone(), p.view(2))]
""",
"""
import copy
p = torch.nn.Parameter(torch.ones(2))
p.tag = 'a'
q = copy.deepcopy(p)
[q, type(q).__name__, q.requires_grad, hasattr(q, 'tag')]
""",
"""
import pickle
p = torch.nn.Parameter(torch.ones(2))
q = pickle.loads(pickle.dumps(p))
[q, type(q).__name__, q.requires_grad]
""",
"""
p = torch.nn.Parameter(x * 2)
[p.is_leaf, p.grad_fn, p.requires_grad]
""",
"""
p = torch.nn.Parameter(torch.ones(2))
p.data = torch.zeros(3)
p
""",
"""
p = torch.nn.Parameter(torch.ones(2))
p.data.fill_(5)
[p, p._version]
""",
"""
p = torch.nn.Parameter(torch.ones(2))
with torch.no_grad():
    p -= 0.5
[p, type(p).__name__, p.is_leaf, p._version]
""",
"""
p = torch.nn.Parameter(torch.ones(2))
p -= 0.5
""",
"""
p = torch.nn.Parameter(torch.ones(2))
with torch.no_grad():
    p.copy_(torch.zeros(2))
    p.add_(1)
    p.mul_(3)
    p[0] = 9
[p, p.requires_grad, p.grad_fn]
""",
]


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_block(same, block):
    same(block, SETUP)
