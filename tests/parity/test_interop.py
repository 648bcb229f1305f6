"""NumPy arrays and scalars, copying, pickling, attributes and Python numbers, against PyTorch."""
import pytest

torch = pytest.importorskip("torch")

SETUP = """
import copy, pickle, math
x = torch.arange(4.0)
n = torch.arange(4)
a = np.arange(4, dtype=np.float32)
d = np.arange(4.0)
r = torch.arange(4.0, requires_grad=True)
"""

CASES = {
    "numpy": """
x + a
x * d
x - a
a / x
x / a
x == a
a == x
x @ a
x + np.float32(2)
np.float32(2) + x
np.float64(2) + x
x + np.float64(2)
n + np.float64(2)
n + np.float32(2)
n + np.int32(2)
np.int64(2) * n
np.int64(2) * x
n * np.int64(2)
x * np.int32(2)
x ** np.float64(2)
np.float64(2) ** x
n / np.int64(2)
n // np.int64(2)
n % np.int64(3)
x > np.float64(1)
np.float64(1) < x
x == np.float32(1)
np.sin(x)
type(np.sin(x)).__name__
np.add(x, 1)
np.add(x, x)
np.argmax(x)
np.stack([x, x])
np.concatenate([x, x])
np.array([x, x])
np.asarray([torch.tensor(1.0), torch.tensor(2.0)])
np.array(x)
np.array(x, dtype=np.int32)
np.asarray(x) is np.asarray(x)
np.asarray(x).dtype
np.array(n).dtype
np.array(torch.tensor(3))
np.array(torch.tensor(True))
np.asarray(torch.ones(2, dtype=torch.float16)).dtype
np.allclose(x, a)
np.array_equal(x, a)
np.where(x > 1, x, 0)
np.dot(x, x)
np.sqrt(r)
np.asarray(r)
np.sqrt(r.detach())
np.ones(4)[n]
np.ones(4)[torch.tensor(2)]
np.arange(8)[torch.tensor([1, 2])]
np.arange(10)[torch.tensor(2):torch.tensor(5)]
np.zeros(torch.tensor(3))
np.zeros((torch.tensor(2), 3))
np.random.RandomState(0).permutation(4)[n]
float(np.array(torch.tensor(2.5)))
x.numpy()
x.numpy().dtype
n.numpy()
torch.ones(2, dtype=torch.bool).numpy()
torch.ones(2, dtype=torch.complex64).numpy()
torch.tensor(3.0).numpy()
torch.zeros(0, 3).numpy().shape
r.numpy()
r.numpy(force=True)
r.detach().numpy()
x.t().numpy()
x.view(2, 2).t().numpy().strides
x.expand(2, 4).numpy().strides
(x.numpy().__setitem__(0, 9), x)[1]
(lambda y: (y.add_(1), x))(torch.from_numpy(x.numpy()))[1]
torch.from_numpy(a).dtype
torch.from_numpy(np.array([True])).dtype
torch.from_numpy(np.arange(3, dtype=np.int8)).dtype
torch.from_numpy(np.arange(3, dtype=np.float16)).dtype
torch.from_numpy(np.asfortranarray(np.ones((2, 3)))).stride()
torch.tensor(np.asfortranarray(np.ones((2, 3)))).stride()
torch.from_numpy(np.arange(12).reshape(3, 4)[:, 1:3]).stride()
torch.from_numpy(np.array(5)).shape
torch.from_numpy(np.float64(5))
x.__array__(np.float64)
dict(a=x)['a'] is x
x.dtype == np.float32
y = copy.deepcopy({'a': x, 'b': x.view(2, 2).t()}); y['a'][1] = 7; y['b']
(torch.is_tensor(x), torch.is_tensor(a))
""",
    "attributes": """
x.__array__()
list(x)
tuple(x)
set([torch.tensor(1)]).__len__()
x in [x]
[1, 2] == x
x.tolist()
torch.tensor([[1, 2], [3, 4]]).tolist()
torch.tensor(True).tolist()
torch.float64 == torch.double
hash(torch.float32) == hash(torch.float)
x.data
x.data = torch.ones(3); x
x.data = [1]
r.data = torch.ones(2); r
y = x.data; y.add_(1); [x, x._version]
y = x.data; x.add_(1); y
y = torch.zeros(4); x.data = y; x.add_(1); y
y = torch.zeros(4); x.data = y; y.add_(1); x
v = x[1:]; x.data = torch.zeros(4); [v, x]
x.grad
x.grad = torch.ones(4); x.grad
x.requires_grad = True; x.requires_grad
x.T.shape
x.T is x
x.names
x.device.type
torch.device('cpu') == x.device
torch.device('cuda', 0)
torch.device('cuda:1').index
torch.device('cpu', -1)
torch.device(type='cpu')
str(torch.device('cuda:0'))
repr(torch.device('cpu'))
isinstance(x, torch.Tensor)
len(x.view(2, 2))
x.__len__()
bool(torch.tensor([]))
x and 1
not torch.tensor(0)
if_ = 1 if torch.tensor(1.0) else 0; if_
x.is_same_size(n)
torch.is_nonzero(torch.tensor([1]))
torch.is_nonzero(x)
torch.typename(x)
x.equal(torch.arange(4.0))
torch.equal(x, n)
x.allclose(x + 1e-09)
torch.allclose(x, n)
torch.can_cast(torch.float32, torch.int32)
torch.can_cast(torch.int32, torch.uint8)
torch.can_cast(torch.bool, torch.int32)
(n.byte() + n.char(), n.byte() + 300, n.byte() * 2.5)
(n.bool() + n.bool(), n.bool() * n.bool())
n.bool() - n.bool()
2 ** 63
torch.tensor([1]) + 2 ** 40
x.half() * 100000.0
math.floor(torch.tensor(2.7))
math.ceil(torch.tensor(2.2))
math.trunc(torch.tensor(-2.7))
round(torch.tensor(2.5))
int(torch.tensor([3]))
int(torch.tensor([[3.7]]))
float(torch.tensor(3))
'{:.1f}'.format(torch.tensor(3.14))
'{:>8}'.format(torch.tensor(3.5))
f'{x}'
f'{torch.tensor(5)}'
f'{torch.tensor(5.5)}'
f'{torch.tensor(True)}'
'%s' % torch.tensor(3)
x.storage()[0]
x.storage().tolist()
x.untyped_storage().size()
x.element_size()
x.nbytes
""",
    "promotion": """
torch.ones(2, dtype=torch.complex64).tolist()
str(x.dtype)
x.dtype == torch.float32
x.dtype == torch.float
x.dtype is torch.float
x.data = torch.ones(3, dtype=torch.int64); x
r.data = torch.ones(4, dtype=torch.int64)
torch.result_type(n, 1.5)
torch.result_type(x, torch.tensor(1.0, dtype=torch.float64))
torch.result_type(n, torch.tensor(1, dtype=torch.int8))
torch.promote_types(torch.int8, torch.uint8)
torch.promote_types(torch.float16, torch.bfloat16)
torch.promote_types(torch.int64, torch.float16)
[n + 1.5, n + x, n / 2, n // 2, n * True, x.half() + 1, x.half() + x, n.int() + n, n > 1]
[torch.tensor(1.0, dtype=torch.float64) + x, torch.tensor(1) + x.half(), torch.tensor(1j) + x]
[torch.tensor(1.5) + n, torch.tensor([1.5]) + n]
torch.tensor(5, dtype=torch.uint8) - 10
torch.tensor([200], dtype=torch.uint8) + 100
-torch.tensor([1], dtype=torch.uint8)
abs(torch.tensor(-128, dtype=torch.int8))
torch.tensor([1], dtype=torch.int32) + 2 ** 40
""",
    "copies": """
copy.copy(x)
copy.copy(x).data_ptr() == x.data_ptr()
copy.deepcopy(x)
copy.deepcopy(x).data_ptr() == x.data_ptr()
y = copy.deepcopy([x, x]); y[0] is y[1]
y = copy.deepcopy([x, x[1:]]); y[0][1] = 9; y[1]
copy.deepcopy(x.view(2, 2).t())
copy.deepcopy(x.expand(3, 4))
copy.deepcopy(x[::2])
copy.deepcopy(r)
copy.deepcopy(r.detach())
copy.deepcopy(torch.tensor(3.0))
copy.deepcopy(torch.zeros(0, 3))
x.foo = 3; copy.deepcopy(x).foo
pickle.loads(pickle.dumps(x))
pickle.loads(pickle.dumps(x.view(2, 2).t()))
pickle.loads(pickle.dumps(r))
pickle.loads(pickle.dumps(r)).requires_grad
pickle.loads(pickle.dumps(torch.ones(2, dtype=torch.bfloat16)))
pickle.loads(pickle.dumps(torch.Size([2, 3])))
pickle.loads(pickle.dumps(torch.float32))
pickle.loads(pickle.dumps(torch.device('cpu')))
pickle.loads(pickle.dumps(torch.channels_last))
y = pickle.loads(pickle.dumps([x, x])); y[0] is y[1]
x.foo = 3; pickle.loads(pickle.dumps(x)).foo
""",
}


@pytest.mark.parametrize("group", CASES)
def test_cases(same_lines, group):
    same_lines(CASES[group], SETUP)
