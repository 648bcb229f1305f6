"""Assignment, in-place ops and ``out=`` against PyTorch: results, dtypes, versions, errors."""
import pytest

torch = pytest.importorskip("torch")

SETUP = """
x = torch.arange(24.0).view(2, 3, 4)
n = torch.arange(24).view(2, 3, 4)
u = torch.arange(6, dtype=torch.uint8)
y = x.permute(2, 0, 1)
v = torch.arange(4.0)
s = torch.tensor(5.0)
z = torch.zeros(2, 0, 3)
i = torch.tensor([1, 0])
b = torch.tensor([True, False, True])
m = x > 10
e = torch.ones(3).expand(2, 3)
"""

CASES = {
    "basic": """
x[0] = 1; x
x[0, 1] = 2.5; x
x[:, 1] = torch.ones(4); x
x[:, 1] = torch.ones(2, 4); x
x[:, 1] = torch.ones(1, 2, 4); x
x[:, 1] = torch.ones(3); x
x[:, 1] = torch.ones(2, 2, 4); x
x[0] = torch.ones(3, 1); x
x[0, 0, 0] = torch.tensor(7); x
x[0, 0, 0] = torch.tensor([7.0]); x
x[0, 0, 0] = torch.tensor([7.0, 8.0]); x
x[0] = [1, 2, 3, 4]; x
x[0] = (1, 2, 3, 4); x
x[0] = np.ones(4); x
x[0] = np.int64(3); x
x[0] = True; x
x[0] = 'a'; x
x[0] = None; x
x[0] = 1j; x
x[0] = {}; x
x[0] = float('nan'); x
x[0] = 1e+300; x
n[0] = 1.7; n
n[0] = True; n
n[0] = float('nan'); n
n[0] = 2 ** 70; n
n[0] = torch.tensor(2.9); n
n[0] = torch.tensor([2.9, 1, 2, 3]); n
u[0] = 300; u
u[0] = -1; u
u[0] = 2.5; u
u[:2] = torch.tensor([300, -1]); u
x[...] = 0; x
x[()] = 3; x
x[:] = 4; x
x[None] = 5; x
x[None, 0] = torch.ones(1, 3, 4); x
x[0, None, 1] = 6; x
x[True] = 7; x
x[False] = 7; x
x[1:] = torch.zeros(3, 4); x
x[::2, 1:, ::2] = -1; x
x[5] = 1
x[0, 5] = 1
x[0, 0, 0, 0] = 1
x[::-1] = 1
x[2:] = 1; x
x[2:] = torch.ones(3, 4); x
x[0, :, i] = torch.arange(6.0).view(3, 2); x
x[:, [0, 1], [1, 2]] = torch.arange(4.0).view(2, 2); x
x[x > 3] = x[x > 3] * 2; x
x[x.isnan()] = 0; x
n[n > 5] = -1; n
y[0] = 1; x
y[:, 0] = torch.arange(12.0).view(4, 3); x
s[()] = 3; s
s[...] = 4; s
s[None] = 5; s
s[0] = 1
s[True] = 6; s
s[:] = 1
z[0] = 1; z
z[:] = torch.zeros(3); z
e[0] = 1
e[0, 0] = 1; e
x[0] += 1; x
x[0] *= torch.arange(4.0); x
x[0, 0] -= 1; x
x[0] += torch.tensor(1); x
n[0] += 1.5
n[0] /= 2
w = x[0]; w[1] = 100; x
w = x[0].clone(); w[1] = 100; x
x[0] = x[1]; x
x[:] = x.flip(0); x
x[0] = torch.tensor([True, False, True, False]); x
x[0].bool()[0] = 3; x
""",
    "index tensors": """
x[0, 0, 0] = torch.tensor([[7.0]]); x
x[torch.tensor(True)] = 7; x
x[i] = 1; x
x[i] = torch.tensor([1.0, 2, 3, 4]); x
x[i] = torch.ones(3, 4); x
x[i] = torch.ones(2, 1, 1) * torch.tensor([5.0, 6]).view(2, 1, 1); x
x[i] = torch.ones(5); x
x[i] = torch.ones(3, 3, 4); x
x[i] = torch.ones(1, 2, 3, 4); x
x[i] = torch.ones(1, 1, 1, 1, 1); x
x[:, i] = torch.arange(8.0).view(2, 4); x
x[:, i] = torch.arange(4.0).view(2, 2, 1); x
x[i, i] = 9; x
x[i, i] = torch.arange(4.0); x
x[i, i] = torch.arange(2.0).view(2, 1); x
x[i, :, i] = torch.arange(6.0).view(2, 3); x
x[i, :, i] = torch.arange(3.0); x
x[i, 0, i] = torch.arange(2.0); x
x[[0, 0]] = torch.stack([torch.zeros(3, 4), torch.ones(3, 4)]) if hasattr(torch, 'stack') else 0; x
x[m] = 0; x
x[m] = torch.arange(13.0); x
x[m] = torch.arange(5.0); x
x[m] = torch.tensor(3.0); x
x[m] = torch.tensor([3.0]); x
x[m] = 1j
x[m] = torch.tensor(3); x
x[m] = torch.tensor([3]); x
x[m] = torch.arange(13); x
x[i] = torch.ones(4, dtype=torch.int64); x
x[i] = torch.ones(4, dtype=torch.float64); x
x[i] = torch.tensor(2, dtype=torch.float64); x
x[:, b] = 2; x
x[:, b] = torch.arange(8.0).view(2, 4); x
x[:, b, 0] = torch.arange(2.0); x
x[m[:, :, 0]] = torch.arange(4.0); x
x[torch.zeros(2, 3, 4, dtype=torch.bool)] = 1; x
x[torch.zeros(2, 3, 4, dtype=torch.bool)] = torch.zeros(0); x
x[[]] = 1; x
x[torch.tensor([], dtype=torch.int64)] = torch.zeros(0, 3, 4); x
x[torch.tensor([5])] = 1
x[torch.tensor([-3])] = 1
x[torch.tensor([-1])] = 1; x
x[torch.tensor([0, 1]), torch.tensor([0, 1, 2])] = 1
x[torch.tensor([0.5])] = 1
x[np.array([1, 0])] = 3; x
x[np.array([True, False])] = 3; x
x[[True, False]] = 3; x
x[i] = 3.5; x
x[i] = 'a'
x[i] = None
x[i] = [1, 2, 3, 4]
x[i] = np.ones(4)
x[i] = np.float64(4); x
n[i] = 2.7; n
n[i] = torch.tensor(2.7); n
n[i] = torch.tensor([2.7]); n
u[torch.tensor([0, 1])] = 300; u
u[torch.tensor([0, 1])] = -1; u
y[i] = torch.zeros(3); x
s[torch.tensor(True)] = 7.0; s
e[torch.tensor([0])] = 1
x.index_put_((i,), torch.tensor(1.0)); x
x.index_put_((i, i), torch.ones(4)); x
x.index_put_((torch.tensor([0, 0]),), torch.ones(3, 4), accumulate=True); x
x.index_put_((torch.tensor([0, 0]), torch.tensor([1, 1])), torch.ones(4), accumulate=True); x
x.index_put_([i], torch.tensor(1.0)); x
x.index_put_((m,), torch.tensor(1.0)); x
x.index_put_((m,), torch.tensor(1.0), accumulate=True); x
x.index_put((i,), torch.tensor(1.0))
torch.index_put(x, (i,), torch.tensor(1.0))
x.index_put_((i,), 1.0)
x.index_put_((i,), torch.ones(4, dtype=torch.int64))
x[i] += 1; x
x[torch.tensor([0, 0])] += 1; x
x[m] *= 2; x
""",
    "ops": """
e.add_(1)
e.fill_(2)
e.zero_()
e.copy_(torch.ones(2, 3))
e[0].add_(1); e
del x[0]
n[i] //= 2; n
bb = torch.zeros(3, dtype=torch.bool); bb[0] = 3; bb[1:] = torch.tensor([2.0, 0]); bb
hh = torch.zeros(3, dtype=torch.float16); hh[0] = 1000000.0; hh
hh = torch.zeros(3, dtype=torch.bfloat16); hh[0] = 1.2345; hh[1:] = torch.tensor([3, 4]); hh
cc = torch.zeros(3, dtype=torch.complex64); cc[0] = 1j; cc[1] = 2; cc[2] = torch.tensor(3.0); cc
x.fill_(torch.tensor(3)); x
x.fill_(torch.tensor([3]))
x.fill_(1e+300)
x.fill_(1j)
x.fill_('a')
n.fill_(2.5); n
n.fill_(float('inf'))
u.fill_(-1); u
u.fill_(256)
x.fill_(True); x
x.copy_(torch.ones(4)); x
x.copy_(torch.ones(5))
x.copy_(torch.ones(1, 2, 3, 4))
x.copy_(torch.ones(2, 2, 3, 4))
x.copy_(torch.arange(24).view(2, 3, 4)); x
x.copy_(1)
x.copy_([1])
n.copy_(x + 0.7); n
u.copy_(torch.tensor([-1, 256, 300, 5, 6, 7.5])); u
x.copy_(torch.tensor(1j))
x.zero_(); x
x.bool().zero_()
x.copy_(y.permute(1, 2, 0) + 1); x
x.index_fill_(0, i, 3.0); x
x.masked_fill_(m, 3.0); x
x.add_(torch.ones(5))
x.add_(torch.ones(2, 2, 3, 4))
v.add_(torch.ones(2, 4))
n.add_(1.5)
n.add_(torch.ones(4))
n.mul_(2.0)
n.div_(2)
u.add_(300); u
u.add_(-1); u
u.sub_(1); u
x.add_(1, alpha=2); x
x.add_(n); x
x.mul_(n); x
x.float().pow_(2)
n.pow_(2)
n.pow_(-1)
n.pow_(0.5)
x.clamp_(3, 5); x
x.eq_(3); x
n.eq_(3); n
v.bool().logical_not_()
v.logical_not_(); v
v.bitwise_not_()
x.sub_(torch.tensor(1.0, dtype=torch.float64)); x
x.half().add_(torch.ones(4, dtype=torch.float64))
v += 1; v
v -= torch.tensor(1); v
v *= 2.5; v
v /= 2; v
v //= 2; v
v %= 2; v
v **= 2; v
k = torch.arange(4); k += 1; k
k = torch.arange(4); k /= 2; k
k = torch.arange(4); k *= 1.5; k
k = torch.arange(4); k //= 2; k
k = torch.arange(4); k <<= 1; k
k = torch.arange(4); k &= 1; k
k = torch.tensor([True, False]); k |= True; k
k = torch.tensor([True, False]); k += 1; k
v.abs_().neg_(); v
v.sqrt_(); v
n.sqrt_()
n.exp_()
v.exp_(); v
v.sigmoid_(); v
v.relu_(); v
v.round_(); v
v.data is v
v.detach() is v
""",
    "version": """
v._version
v.add_(1)._version
v[0].add_(1)._version
(v.add_(1), v[0]._version)[1]
(v.zero_(), v.fill_(1), v.copy_(v), v.mul_(2), v.__setitem__(0, 1), v._version)[-1]
(v.__iadd__(1), v._version)[-1]
(v.t_(), v._version)[-1]
(v.unsqueeze_(0), v._version)[-1]
(v.resize_(2), v._version)[-1]
(v.data.add_(1), v._version)[-1]
(v.detach().add_(1), v._version)[-1]
(v.requires_grad_(), v._version)[-1]
""",
    "out": """
torch.add(v, 1, out=v); v
o = torch.empty(0); torch.add(v, 1, out=o); o
o = torch.empty(2); torch.add(v, 1, out=o); o
o = torch.empty(4, dtype=torch.int64); torch.add(v, 1, out=o); o
o = torch.empty(4, dtype=torch.float64); torch.add(v, 1, out=o); o
o = torch.zeros(4, 2)[:, 0]; torch.add(v, 1, out=o); o
o = torch.zeros(4, requires_grad=True); torch.add(v, 1, out=o)
torch.add(v.clone().requires_grad_(), 1, out=torch.zeros(4))
torch.mm(torch.ones(2, 2), torch.ones(2, 2), out=torch.empty(0)).shape
torch.sum(x, 0, out=torch.empty(0)).shape
torch.max(x, 0, out=(torch.empty(0), torch.empty(0, dtype=torch.int64)))
torch.add(v, 1, out=[1])
torch.add(v, 1, out=(v,))
""",
}


@pytest.mark.parametrize("group", CASES)
def test_cases(same_lines, group):
    same_lines(CASES[group], SETUP)
