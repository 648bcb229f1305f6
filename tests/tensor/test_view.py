"""Views: they share memory, in-place changes go through them, and their derivatives are the inverse."""
import numpy as np
import pytest

import tritium as torch
from tritium.autograd import gradcheck, gradgradcheck

VIEWS = {
    "view": lambda x: x.view(6, 4), "view to one": lambda x: x.view(-1), "reshape": lambda x: x.reshape(3, 8),
    "flatten": lambda x: x.flatten(1), "unflatten": lambda x: x.unflatten(2, (2, 2)),
    "squeeze": lambda x: x.unsqueeze(0).squeeze(), "squeeze(0)": lambda x: x.unsqueeze(0).squeeze(0),
    "unsqueeze": lambda x: x.unsqueeze(1), "permute": lambda x: x.permute(2, 0, 1),
    "transpose": lambda x: x.transpose(0, 2),
    "t": lambda x: x[0].t(), "mT": lambda x: x.mT, "movedim": lambda x: x.movedim(0, 2),
    "select": lambda x: x.select(1, 2),
    "narrow": lambda x: x.narrow(2, 1, 2), "unbind": lambda x: x.unbind(1)[1], "split": lambda x: x.split(2, 1)[0],
    "split sizes": lambda x: x.split([1, 3], 2)[1], "chunk": lambda x: x.chunk(2, 2)[1],
    "tensor_split": lambda x: x.tensor_split(3, 1)[2], "hsplit": lambda x: x.hsplit(3)[1],
    "expand": lambda x: x.expand(2, 2, 3, 4),
    "expand a one": lambda x: x[:, :1].expand(2, 3, 4), "broadcast_to": lambda x: torch.broadcast_to(x[0, 0], (2, 4)),
    "diagonal": lambda x: x.diagonal(1, 1, 2), "diagonal below": lambda x: x.diagonal(-1),
    "unfold": lambda x: x.unfold(2, 2, 1),
    "unfold with steps": lambda x: x.permute(2, 1, 0).unfold(0, 2, 2),
    "as_strided": lambda x: x.as_strided((2, 3), (5, 2), 1),
    "int": lambda x: x[1], "slice": lambda x: x[:, 1:, ::2], "none": lambda x: x[:, None, 0],
    "dots": lambda x: x[..., 1],
    "chained": lambda x: x.permute(2, 0, 1)[1:].transpose(0, 1)[0],
    "of an expanded": lambda x: x[:1].expand(3, 3, 4).diagonal(),
    "windows of an expanded": lambda x: x[:, :, :1].expand(2, 3, 4).unfold(2, 2, 1),
}


def start():
    return torch.arange(24, dtype=torch.float64).view(2, 3, 4).clone()


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_shares_memory_and_version(name):
    x = start()
    v = VIEWS[name](x)
    assert v._base is x and v._is_view() and v.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    before = v.clone()
    x.add_(1)
    assert torch.equal(v, before + 1) and v._version == x._version == 1
    if "expand" not in name and "windows" not in name and "unfold" not in name and name != "broadcast_to":
        v.zero_()
        assert (x == 0).sum().item() == v.numel() and x._version == 2


@pytest.mark.parametrize("name", VIEWS)
def test_derivatives(name):
    x = start().mul_(0.1).requires_grad_()
    f = VIEWS[name]
    assert gradcheck(lambda x: f(x) ** 2, x)
    assert gradgradcheck(lambda x: f(x) ** 2, x)


@pytest.mark.parametrize("name", [n for n in VIEWS if "expand" not in n and "unfold" not in n and "windows" not in n
                                  and n != "broadcast_to" and n not in ("unbind", "split", "split sizes", "chunk")])
def test_in_place_changes_through_a_view_are_recorded(name):
    f = VIEWS[name]

    def change(x, w):
        y = x * 1
        v = f(y)
        v.mul_(w)
        v.add_(w * 2)
        return y ** 2 + y

    x, w = start().mul_(0.1).requires_grad_(), torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    assert gradcheck(change, (x, w))
    assert gradgradcheck(change, (x, w))


def test_reshape_copies_only_when_it_must():
    x = start()
    assert x.reshape(4, 6)._base is x and x.permute(2, 0, 1).reshape(4, 6)._base is x
    y = x.permute(1, 0, 2).reshape(6, 4)
    assert y._base is None and not np.shares_memory(y.numpy(), x.numpy())
    assert x.contiguous() is x and x.flatten(1, 1) is x and x.to(torch.float64) is x


def test_strides():
    x = start()
    assert x.stride() == (12, 4, 1) and x.permute(2, 0, 1).stride() == (1, 12, 4)
    assert x[:, 1:, ::2].stride() == (12, 4, 2)
    assert x.unsqueeze(1).stride() == (12, 12, 4, 1) and x.expand(2, 2, 3, 4).stride() == (0, 12, 4, 1)
    assert x[1, 2:].storage_offset() == 20 and x.diagonal().stride() == (1, 16)
    assert x.permute(2, 0, 1).clone().stride() == (1, 12, 4) and x[:1].expand(3, 3, 4).clone().stride() == (12, 4, 1)
    assert torch.zeros_like(x.permute(2, 0, 1)).stride() == (1, 12, 4)
    assert torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last).stride() == (60, 1, 15, 3)


@pytest.mark.parametrize("call, error, message", [
    (lambda x: x.view(5, 5), RuntimeError, r"shape '\[5, 5\]' is invalid for input of size 24"),
    (lambda x: x.view(-1, -1), RuntimeError, "only one dimension can be inferred"),
    (lambda x: x.permute(1, 0, 2).view(24), RuntimeError, r"view size is not compatible.*Use .reshape\(...\) instead"),
    (lambda x: x.expand(5, 3, 4), RuntimeError,
     r"The expanded size of the tensor \(5\) must match the existing size \(2\)"),
    (lambda x: x.expand(3, 4), RuntimeError, "must be greater or equal to the number of dimensions"),
    (lambda x: x.transpose(0, 3), IndexError,
     r"Dimension out of range \(expected to be in range of \[-3, 2\], but got 3\)"),
    (lambda x: x.permute(0, 0, 1), RuntimeError, r"permute\(\): duplicate dims are not allowed"),
    (lambda x: x.t(), RuntimeError, r"t\(\) expects a tensor with <= 2 dimensions, but self is 3D"),
    (lambda x: x.select(0, 2), IndexError,
     r"select\(\): index 2 out of range for tensor of size \[2, 3, 4\] at dimension 0"),
    (lambda x: x.split([1, 1], 2), RuntimeError, "expects split_sizes to sum exactly to 4"),
    (lambda x: x.unfold(2, 5, 1), RuntimeError, "maximum size for tensor at dimension 2 is 4 but size is 5"),
    (lambda x: x.as_strided((5, 5), (5, 1)), RuntimeError, "out of bounds for storage of size"),
    (lambda x: x.expand(3, 2, 3, 4).add_(1), RuntimeError, "more than one element of the written-to tensor"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(start())


def test_dtype_views():
    x = torch.tensor([1.0, -1.0])
    assert x.view(torch.int32).tolist() == [0x3F800000, 0x3F800000 - (1 << 31)]
    bits = x.view(torch.uint8)
    assert bits.shape == (8,)
    bits.zero_()
    assert x.tolist() == [0, 0]


def test_views_made_without_grad_mode():
    x = torch.ones(3, requires_grad=True) * 1
    with torch.no_grad():
        v = x[:2]
        v.mul_(2)
    assert v.requires_grad and v.is_leaf
    with pytest.raises(RuntimeError, match="A view was created in no_grad mode and is being modified inplace"):
        v.mul_(2)
    with pytest.raises(RuntimeError, match="Output 1 of Unbind is a view and is being modified inplace"):
        x.unbind()[1].mul_(2)
