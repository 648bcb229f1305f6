"""Copies, conversions and writing into tensors: values, layouts, derivatives, errors."""
import math

import numpy as np
import pytest

import tritium as torch
from tritium.autograd import gradcheck, gradgradcheck


def rand(*shape):
    return torch.from_numpy(np.asarray(np.random.default_rng(1).standard_normal(shape))).requires_grad_()


def written(write):
    """A function of x and v: x (copied) after ``write``, squared."""
    def f(x, v):
        y = x * 1
        write(y, v)
        return y ** 2
    return f


def assign(y, key, v):
    y[key] = v


MASK = torch.tensor([[True, False, True], [False, True, True]])
WRITES = {
    "copy_": (lambda y, v: y.copy_(v), (3,)), "copy_ of all": (lambda y, v: y.copy_(v), (2, 3)),
    "fill_": (lambda y, v: y.fill_(v), ()), "a row": (lambda y, v: assign(y, 0, v), (3,)),
    "a column": (lambda y, v: assign(y, (slice(None), 1), v), (2,)),
    "a broadcast number": (lambda y, v: assign(y, 1, v), ()),
    "index tensors": (lambda y, v: assign(y, torch.tensor([1, 0]), v), (3,)),
    "a mask": (lambda y, v: assign(y, MASK, v), (4,)), "a mask, one number": (lambda y, v: assign(y, MASK, v), ()),
    "two index tensors": (lambda y, v: assign(y, (torch.tensor([0, 1]), torch.tensor([2, 0])), v), (2,)),
    "index_put_ added": (lambda y, v: y.index_put_((torch.tensor([1, 1, 0]),), v, accumulate=True), (3, 3)),
    "through a view": (lambda y, v: y.t()[1].copy_(v), (2,)),
    "of itself": (lambda y, v: y[0].copy_(y[1].clone() * v), (3,)),
}


@pytest.mark.parametrize("name", WRITES)
def test_derivatives_of_writing(name):
    write, shape = WRITES[name]
    f = written(write)
    assert gradcheck(f, (rand(2, 3), rand(*shape)))
    assert gradgradcheck(f, (rand(2, 3), rand(*shape)))
    assert gradcheck(f, (rand(2, 3), rand(*shape).detach()))
    assert gradcheck(f, (rand(2, 3).detach(), rand(*shape)))


COPIES = {
    "clone": lambda x: x.clone(), "contiguous": lambda x: x.t().contiguous(), "flip": lambda x: x.flip(0, 1),
    "to": lambda x: x.to(torch.float64, copy=True), "double": lambda x: x.double(), "cpu": lambda x: x.cpu(),
    "reshape": lambda x: x.t().reshape(-1), "index": lambda x: x[torch.tensor([1, 0, 1])],
    "index of a column": lambda x: x[:, torch.tensor([2, 2])],
    "pairs": lambda x: x[torch.tensor([0, 1]), torch.tensor([1, 1])],
    "mask": lambda x: x[MASK], "mixed": lambda x: x[0, torch.tensor([2, 0]), None],
}


@pytest.mark.parametrize("name", COPIES)
def test_derivatives_of_copies(name):
    f = COPIES[name]
    assert gradcheck(lambda x: f(x) ** 2, rand(2, 3))
    assert gradgradcheck(lambda x: f(x) ** 2, rand(2, 3))


def test_conversions():
    x = torch.tensor([1.7, -1.7, 0.0])
    assert x.int().tolist() == [1, -1, 0] and x.bool().tolist() == [True, True, False]
    assert torch.tensor([300, -1]).to(torch.uint8).tolist() == [44, 255]
    assert torch.tensor([70000.0]).half().item() == math.inf
    assert torch.tensor([1.0039]).bfloat16().item() == 1.0 and torch.tensor([1 + 2j]).float().item() == 1
    assert torch.tensor(3).to(torch.float32).dtype is torch.float32
    assert x.type("torch.DoubleTensor").dtype is torch.float64
    y = torch.ones(2, requires_grad=True)
    (y.double() * 2).sum().backward()
    assert y.grad.dtype is torch.float32 and not y.long().requires_grad


@pytest.mark.cpu_only(reason="names the CPU")
def test_to_parses_its_arguments():
    x = torch.ones(2)
    for same in (x.to(torch.float32), x.to("cpu"), x.to(torch.device("cpu"), torch.float32), x.to(x),
                 x.to(device="cpu")):
        assert same is x
    for copy in (x.to(torch.float32, copy=True), x.to(torch.float32, False, True),
                 x.to("cpu", torch.float32, False, True)):
        assert copy is not x and copy.data_ptr() != x.data_ptr()
    assert x.to("cpu", torch.float64).dtype is torch.float64
    assert x.to(torch.ones(1, dtype=torch.int8)).dtype is torch.int8


@pytest.mark.parametrize("call, message", [
    (lambda: torch.zeros(2).fill_(1e300), "value cannot be converted to type float without overflow"),
    (lambda: torch.zeros(2, dtype=torch.uint8).fill_(256),
     "value cannot be converted to type uint8_t without overflow"),
    (lambda: torch.zeros(2, dtype=torch.int64).fill_(math.nan),
     "value cannot be converted to type int64_t without overflow"),
    (lambda: torch.zeros(2).fill_(torch.ones(1)), "fill_ only supports 0-dimension value tensor"),
    (lambda: torch.zeros(2).copy_(torch.ones(3)), "must match the size of tensor b"),
    (lambda: torch.zeros(2).copy_(torch.ones(2, 2)), "doesn't match the broadcast shape"),
    (lambda: torch.zeros(2, 3).__setitem__(0, torch.ones(2)), "The expanded size of the tensor"),
    (lambda: torch.zeros(2, 3).__setitem__(torch.tensor([0]), torch.ones(2)), "shape mismatch: value tensor of shape"),
    (lambda: torch.zeros(2).__setitem__(torch.tensor([0]), torch.ones(1, dtype=torch.float64)), "dtypes match"),
])
def test_errors(call, message):
    with pytest.raises(RuntimeError, match=message):
        call()


def test_setitem_takes_tensors_and_numbers_only():
    x = torch.zeros(2)
    for value in ([1.0, 2.0], "a", None, np.ones(2)):
        with pytest.raises(TypeError, match="can't assign a"):
            x[:] = value
    x[0] = np.float32(3)
    x[1] = True
    assert x.tolist() == [3, 1]


def test_resize_and_set():
    x = torch.arange(4.0)
    x.resize_(2, 2)
    assert x.tolist() == [[0, 1], [2, 3]]
    x.resize_(3)
    assert x.tolist() == [0, 1, 2] and x.resize_(5).shape == (5,)
    y = torch.zeros(2)
    y.set_(torch.ones(3))
    assert y.tolist() == [1, 1, 1]
    with pytest.raises(RuntimeError, match="cannot resize variables that require grad"):
        torch.ones(2, requires_grad=True).resize_(3)


@pytest.mark.cpu_only(reason="memory shared with NumPy")
def test_memory_that_numpy_holds_does_not_grow():
    held = torch.from_numpy(np.ones(2))
    with pytest.raises(RuntimeError, match="not resizable"):
        held.resize_(3)
