"""Products against PyTorch: values, dtypes, strides, nodes, errors."""
import pytest

torch = pytest.importorskip("torch")

SETUP = """
a = torch.arange(6.0).view(2, 3) - 2
b = torch.arange(12.0).view(3, 4) - 5
v = torch.arange(3.0)
w = torch.arange(4.0)
B = torch.arange(24.0).view(4, 2, 3) / 7
C = torch.arange(60.0).view(4, 3, 5) / 9
ga = (torch.arange(6.0, dtype=torch.float64).view(2, 3) - 2).requires_grad_()
gb = (torch.arange(12.0, dtype=torch.float64).view(3, 4) - 5).requires_grad_()
n = torch.arange(6).view(2, 3)
s = torch.tensor(2.0)
"""

CASES = {
    "mm": """
torch.mm(a, b)
a.mm(b)
torch.mm(a, a)
torch.mm(a, v)
torch.mm(v, a)
torch.mm(a, b.double())
torch.mm(a, n.t())
torch.mm(n, n.t())
torch.mm(n.int(), n.int().t())
torch.mm(n.bool(), n.bool().t())
torch.mm(a.half(), b.half())
torch.mm(a.bfloat16(), b.bfloat16())
torch.mm(a.cfloat(), b.cfloat())
torch.mm(a.t(), a)
torch.mm(a.t(), b.t()[:2, :])
torch.mm(torch.ones(0, 3), b)
torch.mm(torch.ones(2, 0), torch.ones(0, 4))
torch.mm(torch.ones(2, 3), torch.ones(3, 0))
torch.mm(a, 2)
torch.mm(a, [1])
torch.mm(a, mat2=b)
torch.mm(a, b, out=torch.empty(0)).shape
torch.mm(a, b, out=torch.empty(2, 4, dtype=torch.float64))
torch.mm(a.expand(2, 3), b[:, :1].expand(3, 4))
torch.mm(a[:1].expand(5, 3), b)
torch.mm(ga, gb)
""",
    "bmm": """
torch.bmm(B, C)
torch.bmm(B, C[:2])
torch.bmm(B, B)
torch.bmm(a, b)
torch.bmm(B, a)
torch.bmm(B, C.double())
torch.bmm(B.permute(0, 2, 1), B)
torch.bmm(torch.ones(0, 2, 3), torch.ones(0, 3, 4))
torch.bmm(torch.ones(2, 2, 0), torch.ones(2, 0, 4))
torch.bmm(B.long(), C.long())
torch.bmm(B.half(), C.half())
B.bmm(C)
""",
    "mv": """
torch.mv(a, v)
a.mv(v)
torch.mv(a, w)
torch.mv(v, a)
torch.mv(a, v.double())
torch.mv(n, n[0])
torch.mv(torch.ones(2, 0), torch.ones(0))
""",
    "dot": """
torch.dot(v, v)
v.dot(v)
torch.dot(v, w)
torch.dot(a, v)
torch.dot(v, v.double())
torch.dot(n[0], n[0])
torch.dot(v.half(), v.half())
torch.dot(torch.ones(0), torch.ones(0))
torch.dot(torch.tensor([1 + 2j]), torch.tensor([3 - 1j]))
""",
    "inner": """
torch.inner(v, v)
torch.inner(a, a)
torch.inner(a, v)
torch.inner(s, a)
torch.inner(a, b)
torch.inner(B, a)
""",
    "outer": """
torch.outer(v, w)
v.outer(w)
torch.outer(a, v)
torch.outer(v, w.double())
torch.outer(v, w.long())
""",
    "matmul": """
torch.matmul(a, b)
torch.matmul(a, b, out=torch.empty(0)).shape
torch.matmul(n, n.t())
torch.matmul(a, n.t())
torch.matmul(a, 1)
a.matmul(b)
torch.linalg.matmul(a, b)
""",
    "operator": """
a @ b
a @ v
v @ b
v @ v
v @ w
w @ b
a @ a
a @ w
s @ a
a @ s
B @ C
B @ C[0]
B @ C[0, :, 0]
a @ C
v @ C
v.view(1, 3) @ C
B @ v
w @ C
B @ B
B @ w
B @ C[:2]
B[:, None] @ C
B[:, None] @ C[None]
B.view(2, 2, 2, 3) @ C.view(2, 2, 3, 5)
B.view(2, 2, 2, 3) @ C[:2]
B.view(4, 1, 2, 3) @ C.view(1, 4, 3, 5)
ga @ gb
ga @ gb[:, 0]
ga[0] @ gb
ga.expand(4, 2, 3) @ gb
ga.expand(4, 2, 3) @ gb.expand(4, 3, 4)
a.T @ a
""",
    "ones": """
torch.ones(3, 2, 3) @ torch.ones(2, 3, 4)
torch.ones(2, 0) @ torch.ones(0, 3)
torch.ones(0, 2, 3) @ torch.ones(3, 4)
torch.ones(2, 2, 0) @ torch.ones(0, 4)
torch.ones(2, 0, 3) @ torch.ones(2, 3, 4)
torch.ones(2, 4).addmm(a, b)
torch.ones(2, 4).addmm_(a, b)
""",
    "addmm": """
torch.addmm(torch.ones(2, 4), a, b)
torch.addmm(torch.ones(4), a, b)
torch.addmm(torch.ones(2, 1), a, b)
torch.addmm(s, a, b)
torch.addmm(torch.ones(3), a, b)
torch.addmm(torch.ones(2, 4), a, b, beta=0.5, alpha=2)
torch.addmm(torch.full((2, 4), float('nan')), a, b, beta=0)
torch.addmm(torch.ones(2, 4), a, a)
torch.addmm(torch.ones(2, 4), v, b)
torch.addmm(torch.ones(2, 4).double(), a, b)
torch.addmm(torch.ones(2, 4), a, b.double())
torch.addmm(n, n, n.t())
torch.addmm(torch.ones(2, 2, dtype=torch.int64), n, n.t(), beta=2, alpha=3)
torch.addmm(torch.ones(2, 2, dtype=torch.int64), n, n.t(), beta=0.5)
torch.addmm(torch.ones(2, 4), torch.ones(2, 0), torch.ones(0, 4))
torch.addmm(torch.ones(2, 4).half(), a.half(), b.half())
torch.addmm(torch.ones(1, 2, 4), a, b)
torch.addmm(torch.ones(4, dtype=torch.float64, requires_grad=True), ga, gb, beta=2, alpha=3)
""",
    "addmv": """
torch.addmv(torch.ones(2), a, v)
torch.addmv(torch.ones(2), a, v, beta=2, alpha=3)
torch.addmv(s, a, v)
torch.addmv(torch.ones(3), a, v)
""",
    "baddbmm": """
torch.baddbmm(torch.ones(4, 2, 5), B, C)
torch.baddbmm(torch.ones(2, 5), B, C)
torch.baddbmm(torch.ones(5), B, C, beta=0.5, alpha=2)
torch.baddbmm(torch.ones(3), B, C)
torch.baddbmm(torch.full((4, 2, 5), float('nan')), B, C, beta=0)
""",
    "einsum": """
torch.einsum('ij,jk->ik', a, b)
torch.einsum('ij,jk', a, b)
torch.einsum('ij->ji', a)
torch.einsum('ij->', a)
torch.einsum('ij->i', a)
torch.einsum('ii->i', torch.ones(3, 3))
torch.einsum('ii', torch.ones(3, 3))
torch.einsum('ii->', torch.ones(3, 3))
torch.einsum('i,j->ij', v, w)
torch.einsum('i,i->', v, v)
torch.einsum('i,i', v, v)
torch.einsum('bij,bjk->bik', B, C)
torch.einsum('...ij,...jk->...ik', B, C)
torch.einsum('...ij,jk->...ik', B, C[0])
torch.einsum('...i->...', B)
torch.einsum('i...->...i', B)
torch.einsum('...', B)
torch.einsum('bij,bjk,kl->bil', B, C, torch.ones(5, 2))
torch.einsum(' i j , j k -> i k ', a, b)
torch.einsum('ij,jk->ik', [a, b])
torch.einsum('ij,kj->ik', a, a)
torch.einsum('ij,ij->ij', a, a)
torch.einsum('ij,ik->jk', a, a)
torch.einsum('i->ii', v)
torch.einsum('ij,jk->il', a, b)
torch.einsum('ij,jk->ik', a)
torch.einsum('ij->ik', a, b)
torch.einsum('ij,jk->ik', a, a)
torch.einsum('ijk->i', a)
torch.einsum('i->i', a)
torch.einsum('i.j->i', a)
torch.einsum('i1->i', a)
torch.einsum('ij->iij', a)
torch.einsum('Ab,bC->AC', a, b)
torch.einsum('ij,jk->ik', a, b.double())
torch.einsum('ij,jk->ik', n, n.t())
torch.einsum('ij,jk->ik', ga, gb)
torch.einsum(a, [0, 1], b, [1, 2], [0, 2])
torch.einsum(a, [0, 1], b, [1, 2])
torch.einsum('b...,b->b', torch.ones(2), torch.ones(2))
torch.einsum('ij,ij->', a[:1], a)
""",
    "tensordot": """
torch.tensordot(a, b, 1)
torch.tensordot(a, b, ([1], [0]))
torch.tensordot(a, b, dims=([1], [0]))
torch.tensordot(B, C, ([0, 2], [0, 1]))
torch.tensordot(a, b, 0)
torch.tensordot(a, b, 2)
torch.tensordot(a, a, 2)
torch.tensordot(a, b, 5)
torch.tensordot(a, b, -1)
torch.tensordot(a, b, ([1], [1]))
torch.tensordot(a, b, ([1, 0], [0]))
""",
    "linear": """
torch.nn.functional.linear(a, b.t())
torch.nn.functional.linear(a, b.t(), w)
torch.nn.functional.linear(B, b.t(), w)
torch.nn.functional.linear(v, b.t(), w)
torch.nn.functional.linear(v, v)
torch.nn.functional.linear(a, v)
torch.nn.functional.linear(a, b)
torch.nn.functional.linear(a, b.t(), v)
torch.nn.functional.linear(a, b.t().double())
torch.nn.functional.linear(B, b)
torch.nn.functional.linear(s, b.t())
torch.nn.functional.linear(ga, gb.t(), torch.ones(4, dtype=torch.float64, requires_grad=True))
torch.nn.functional.linear(ga, gb.t())
torch.nn.functional.linear(ga.expand(3, 2, 3), gb.t())
torch.nn.functional.linear(a[:0], b.t(), w)
""",
    "others": """
torch.vdot(v, v)
torch.vdot(torch.tensor([1 + 2j]), torch.tensor([3 - 1j]))
torch.ger(v, w)
torch.addr(torch.ones(3, 4), v, w)
torch.addr(torch.ones(3, 4), v, w, beta=0.5, alpha=2)
torch.addbmm(torch.ones(2, 5), B, C)
torch.addbmm(torch.ones(2, 5), B, C, beta=2, alpha=0.5)
torch.chain_matmul(a, b, torch.ones(4, 2))
torch.linalg.multi_dot([a, b, torch.ones(4, 2)])
torch.kron(a, a)
torch.trace(torch.ones(3, 3))
""",
}


@pytest.mark.parametrize("group", CASES)
def test_cases(same_lines, group):
    same_lines(CASES[group], SETUP)
