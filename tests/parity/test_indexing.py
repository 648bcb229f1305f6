"""Reading by index, and how tensors speak to Python, against PyTorch."""
import pytest

torch = pytest.importorskip("torch")

SETUP = """
x = torch.arange(24.0).view(2, 3, 4)
g = torch.arange(24.0, dtype=torch.float64).view(2, 3, 4).requires_grad_()
y = x.permute(2, 0, 1)
v = torch.arange(4.0)
s = torch.tensor(5.0)
z = torch.zeros(2, 0, 3)
i = torch.tensor([1, 0])
b = torch.tensor([True, False, True])
m = x > 10
"""

CASES = {
    "basic": """
x[0]
x[-1]
x[2]
x[-3]
x[0, 1]
x[0, 1, 2]
x[0, 1, 2, 0]
x[0, 5]
x[0, :, 7]
x[()]
x[...]
x[..., 0]
x[0, ...]
x[..., 0, :]
x[0, ..., 1]
x[..., ...]
x[0, ..., ...]
x[..., 0, 1, 2]
x[..., 0, 1, 2, 3]
x[:]
x[:]
x[:, :]
x[1:]
x[:1]
x[5:]
x[-5:]
x[::2]
x[:, 1::2]
x[:, ::3]
x[::-1]
x[::0]
x[1:0]
x[:, 2:1]
x[:, -2:-1]
x[1:2, 1:3, ::2]
x[0, 1:, 2]
x[:, 0]
x[:, :, 0]
x[:, :, -1:]
x[None]
x[None, None]
x[:, None]
x[..., None]
x[None, ..., None]
x[0, None]
x[None, 0]
x[0, None, 1]
x[:, None, :, None]
x[np.int64(1)]
x[np.int8(1)]
x[np.float32(1)]
x[1.5]
x['a']
x[{}]
x[object()]
x[1j]
x[1, 0]
x[:, []]
x[None, [0, 1], [1, 2]]
x[..., [0, 1], None]
x[0, ..., [0, 1]]
x[1, [0, 1], [2, 3]]
x[:, [0, 1], 2]
x[0, [0, 1], 1:3]
x[0:1, [0, 1], 1:3]
x[np.int64(0):np.int64(1)]
x[1.0:2]
x['a':]
x[0:2:1.5]
x[0, 0, 0].item()
""",
    "masks": """
x[True]
x[False]
x[True, 0]
x[0, True]
x[True, True]
x[True, False]
x[None, True]
x[:, True]
x[torch.tensor(True)]
x[torch.tensor(False)]
x[m]
x[m, 0]
x[:, b]
x[:, b, 0]
x[:, b, 1:]
x[b]
x[:, :, b]
x[m[0]]
x[:, m[0]]
x[m[:, :, 0]]
x[m[:, :, 0], 1:]
x[m[:, :, 0], i]
x[torch.zeros(2, 3, 4, dtype=torch.bool)]
x[torch.zeros(2, dtype=torch.bool)]
x[torch.zeros(2, 3, 4, 1, dtype=torch.bool)]
x[b, b]
x[:, b, b]
x[[True, False]]
x[[[True, False, True], [True, False, False]]]
x[:, [True, False, True]]
x[[True, False, True]]
x[np.array([True, False])]
""",
    "index tensors": """
x[torch.tensor(1)]
x[torch.tensor(-1)]
x[torch.tensor(5)]
x[torch.tensor(1, dtype=torch.uint8)]
x[torch.tensor(1.5)]
x[torch.tensor(1), torch.tensor(2)]
x[torch.tensor(1), 1:]
x[np.array(1)]
x[i]
x[[1, 0]]
x[[1, 0],]
x[[1, 0], [0, 1]]
x[[1, 0], [0, 1], [2, 3]]
x[[1, 0], [0, 1], [2, 3], [0, 0]]
x[[[1, 0], [0, 1]]]
x[[[1, 0], [0, 1]],]
x[i, i]
x[:, i]
x[:, i, :]
x[..., i]
x[:, :, i]
x[i, :, i]
x[i, 0]
x[0, i]
x[i, ..., i]
x[i, None]
x[None, i]
x[i, None, i]
x[:, None, i]
x[i, 1:]
x[1:, i]
x[:, i, i]
x[i, i, 1:3]
x[i, 0, i]
x[0, i, i]
x[0, :, i]
x[0, 1, i]
x[0, i, 1]
x[i[:, None], i]
x[i[:, None], :, i]
x[i[:, None], i[None]]
x[torch.tensor([[0, 1], [1, 1]])]
x[torch.tensor([[0, 1], [1, 1]]), :, torch.tensor([0, 3])]
x[torch.tensor([], dtype=torch.int64)]
x[[]]
x[[], []]
x[torch.tensor([])]
x[torch.tensor([1.5])]
x[torch.tensor([0, 5])]
x[torch.tensor([0, -3])]
x[[0, 5]]
x[torch.tensor([0, 1]), torch.tensor([0, 1, 2])]
x[torch.tensor([0, 1]), :, torch.tensor([0, 1, 2])]
x[torch.tensor([1, 0], dtype=torch.int32)]
x[torch.tensor([1, 0], dtype=torch.int8)]
x[torch.tensor([1, 0], dtype=torch.int16)]
x[torch.tensor([1, 0], dtype=torch.uint8)]
x[:, torch.tensor([1, 0, 1], dtype=torch.uint8)]
x[np.array([1, 0])]
x[np.array([[1, 0]])]
x[np.array([1.0])]
x[np.array([1, 0], dtype=np.int32), 1]
x[range(2)]
x[range(2), range(2)]
x[[torch.tensor(1), torch.tensor(0)]]
x[[i, i]]
x[[i, 0]]
x[[slice(0, 1), 0]]
x[[None, 0]]
x[[0, slice(None)]]
x[i, i]
x[[1, 0.5]]
x[['a']]
x[[0, 1], None, [1, 2]]
x[[0, 1], [1, 2], None]
x[[0, 1], ..., [0, 1]]
x[[0], ..., [0, 1]]
x[[0, 1], 1, [2, 3]]
x[[0, 1], :, 2]
x[torch.tensor(0), [0, 1]]
x[[0, 1], torch.tensor(0)]
x[torch.tensor(0), :, [0, 1]]
x[[0, 1], :, torch.tensor(0)]
x[torch.tensor([0]), :, [0, 1]]
x[slice(torch.tensor(0), torch.tensor(1))]
x[torch.tensor(0):torch.tensor(1)]
""",
    "tensor y": """
y[0]
y[i]
y[:, i]
y[1:, 0]
y[..., None]
y[i, :, i]
y[b[:2].new_tensor([True, False, True, True])]
""",
    "tensor s": """
s[()]
s[...]
s[None]
s[0]
s[:]
s[0, 0]
s[True]
s[False]
s[torch.tensor(True)]
s[torch.tensor(0)]
s[[]]
s[[0]]
s[torch.tensor([0])]
s[None, None]
s[..., None]
s[None, ...]
""",
    "tensor z": """
z[0]
z[:, 0]
z[:, :]
z[0, :]
z[i]
z[:, []]
z[:, torch.tensor([], dtype=torch.int64)]
z[:, [0]]
z[..., 0]
z[z > 0]
""",
    "tensor v": """
v[1:3]
v[i]
v[v > 1]
v[[0, 0, 0]]
v[None, :]
v[:, None]
v[0:0]
v[10:]
v[-10:2]
v[torch.tensor([[0, 1], [2, 3]])]
v[1][()]
""",
    "tensor g": """
g[0]
g[:, 1]
g[0, 1, 2]
g[1:]
g[:]
g[...]
g[None]
g[:, None]
g[0, None]
g[None, 0]
g[i]
g[g > 3]
g[0, i]
g[:, i, 0]
g[..., 0]
g[0, 1:]
g[1:, 0]
g[1:, ::2]
g[True]
g[()]
""",
    "python": """
v.int()[i]
v.bool()[i]
v.half()[i]
v.bfloat16()[i]
v.bfloat16()[v > 1]
v.cfloat()[i]
torch.ones(3, dtype=torch.bool)[torch.tensor([0, 0])]
x.tolist()
s.tolist()
z.tolist()
len(x)
len(s)
[t for t in v]
list(iter(x))[1]
for_ = [t for t in s]
3.0 in v
torch.tensor(3.0) in v
9 in v
'a' in v
None in v
[1] in v
bool(x)
bool(s)
bool(z)
bool(torch.tensor([0.0]))
bool(torch.tensor([[1]]))
int(s)
float(v)
float(z)
int(torch.tensor(2.7))
complex(s)
int(torch.tensor(1 + 2j))
float(torch.tensor(1 + 2j))
range(10)[torch.tensor(3)]
[1, 2, 3][torch.tensor([1])]
[1, 2, 3][s]
[1, 2, 3][torch.tensor([1, 1])]
[1, 2, 3][torch.tensor(True)]
x.item()
z.item()
torch.tensor([[2.5]]).item()
torch.tensor(True).item()
torch.tensor(3, dtype=torch.uint8).item()
torch.tensor(1.5, dtype=torch.bfloat16).item()
torch.tensor(1.5, dtype=torch.bfloat16).tolist()
torch.tensor([1.5], dtype=torch.bfloat16).tolist()
torch.tensor(1.5, dtype=torch.float16).item()
torch.tensor(1 + 2j).item()
hash(s) == hash(s)
format(s, '.2f')
format(s, '')
format(v, '.2f')
format(torch.tensor(3), 'd')
format(torch.tensor(3), '05d')
f'{torch.tensor(2.5):.3e}'
'%.2f' % s
'%d' % torch.tensor(3)
round(torch.tensor(2.567), 2)
abs(torch.tensor(-2.0))
reversed(v)
reversed(s)
divmod(torch.tensor(7), 2)
divmod(torch.tensor(7.5), torch.tensor(2.0))
__import__('math').sqrt(torch.tensor(4.0))
sum([torch.tensor(1.0), torch.tensor(2.0)])
max(torch.tensor(1.0), torch.tensor(2.0))
sorted([torch.tensor(3.0), torch.tensor(1.0)])
torch.tensor(2) ** torch.tensor(3)
2 ** torch.tensor(3)
2 ** torch.tensor(3.0)
torch.tensor(3) ** (-1)
torch.tensor(5) // 2
5 // torch.tensor(2)
5 % torch.tensor(3)
-5 % torch.tensor(3)
torch.tensor(5) % -3
torch.tensor(5) << 1
1 << torch.tensor(5)
~torch.tensor(5)
~torch.tensor(True)
-torch.tensor(True)
+torch.tensor(True)
+v is v
not s
v == None
v != None
v == 'a'
v is None
v < 'a'
v + 'a'
v + None
v + [1, 2, 3, 4]
[1, 2, 3, 4] + v
v @ 2
2 @ v
v @ v
v & v
v.int() & 1
1 & v.int()
v.bool() & True
v.bool() | v.bool()
v.bool() ^ True
v += 'a'
""",
}


@pytest.mark.parametrize("group", CASES)
def test_cases(same_lines, group):
    same_lines(CASES[group], SETUP)
