"""Views against PyTorch: values, strides, aliasing, names of nodes, errors."""
import pytest

torch = pytest.importorskip("torch")

SETUP = """
x = torch.arange(24.0).view(2, 3, 4)
g = torch.arange(24.0, dtype=torch.float64).view(2, 3, 4).requires_grad_()
y = x.permute(2, 0, 1)
e = torch.arange(3.0).expand(2, 3)
v = torch.arange(4.0)
s = torch.tensor(5.0)
z = torch.zeros(2, 0, 3)
"""

CASES = {
    "view": """
x.view(6, 4)
x.view(-1)
x.view(-1, 4)
x.view(4, -1, 2)
x.view(5, -1)
x.view(-1, -1)
x.view(-2, 12)
x.view(25)
x.view(())
s.view(1)
s.view(-1)
s.view(1, 1, 1)
s.view(())
v[:1].view(())
x.view([6, 4])
x.view((6, 4))
x.view(torch.Size([6, 4]))
x.view(size=(6, 4))
x.view()
x.view(2.5)
x.view('a')
x.view(None)
y.view(24)
y.view(4, 6)
y.view(4, 2, 3)
y.view(2, 2, 6)
y.view(2, 2, 2, 3)
e.view(6)
e.view(2, 3, 1)
e.view(2, 1, 3)
x[:, :, ::2].view(6, 2)
x[:, :, ::2].view(12)
z.view(0)
z.view(3, 0)
z.view(-1)
z.view(0, -1)
z.view(2, -1)
z.view(5, -1)
z.view(1)
x.view(torch.int32)
x.view(torch.int64)
x.view(torch.float64).shape
x.view(torch.int16).shape
x.view(torch.uint8).shape
x[:, :, :3].view(torch.float64)
x[:, :, ::2].view(torch.int16)
y.view(torch.int16)
y.view(torch.int32)
s.view(torch.int32)
s.view(torch.int16)
x.view(dtype=torch.int32)
x.view(torch.uint8).view(torch.float32)
x.view(6, 4)._base._base is None
x.view(6, 4)[0]._base is x._base
x[0].view(12)._is_view()
g.view(6, 4)
x.view(2, 3, 4) is x
x.view(2, 1, 3, 1, 4).squeeze()
x.view(2, 1, 3, 1, 4).squeeze(1)
x.view(2, 1, 3, 1, 4).squeeze(-2)
x.view(2, 1, 3, 1, 4).squeeze((1, 3))
x.view(2, 1, 3, 1, 4).squeeze((0, 1))
g.view(2, 1, 12).squeeze()
g.view(2, 1, 12).squeeze(1)
g.view(2, 1, 12).squeeze((1,))
g.view(24)[:3].unbind()
v.view(1, 4).squeeze_(0)
""",
    "others": """
y._base is x
x._base is None
x.swapaxes(0, 1)
g.swapaxes(0, 1)
x.swapdims(0, 1)
x.mH
x.moveaxis(0, 1)
x.split_with_sizes([1, 2], 1)
torch.split_with_sizes(x, [1, 2], dim=1)
torch.split_with_sizes(x, split_sizes=[1, 2], dim=1)
torch.arange(10).chunk(4)
torch.arange(7).chunk(5)
x.vsplit(2)
v.vsplit(2)
x.vsplit(3)
x.dsplit(2)
x[0].dsplit(2)
v.expand_as(torch.zeros(3, 4))
v.broadcast_to((3, 4))
torch.broadcast_to(v, (3, 4))
v.broadcast_to((3, 5))
x.data._is_view()
g.data
g.data.requires_grad
x.storage_offset()
x[1].storage_offset()
x[1, 2].storage_offset()
x.shape
x.shape[1:]
x.dim()
x.ndim
x.numel()
torch.numel(x)
x.nelement()
x.element_size()
x.itemsize
x.nbytes
y.double()
e.double()
g.double() is g
g.float()
g.half()
v.half()
x.type_as(v.int())
x.cpu() is x
v.long()
v.bool()
v.char()
v.byte()
v.byte().is_signed()
v.short()
v.int()
v.bfloat16()
v.cfloat()
v.cdouble()
v.view_as(torch.zeros(2, 2))
v.reshape_as(torch.zeros(2, 2))
torch.view_as_real(torch.ones(3, dtype=torch.complex64))
torch.view_as_real(torch.ones(3))
v.real is v
torch.real(v) is v
v.imag
torch.imag(v)
torch.adjoint(x)
torch.fliplr(x)
torch.flipud(x)
x.squeeze_()
v.unsqueeze_(0)
x.transpose_(0, 1)
x[0].t_()
x.swapaxes_(0, 1)
torch.atleast_1d(s)
torch.atleast_1d(s, v)
torch.atleast_2d(v)
torch.atleast_3d(v)
x.storage().size()
x.untyped_storage().nbytes()
x[1].untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
x[1].data_ptr() - x.data_ptr()
x.is_set_to(x)
x.set_(v)
v.set_(v.double())
x.resize_as_(v)
v.is_shared()
v.layout
v.device
v.is_cuda
v.is_sparse
v.get_device()
v.names
v.is_floating_point()
torch.is_floating_point(v)
v.is_complex()
v.is_signed()
torch.is_tensor(v)
""",
    "ones": """
torch.ones(2, dtype=torch.bfloat16).view(torch.int16)
torch.ones(2, dtype=torch.bool).view(torch.uint8)
torch.ones(3, dtype=torch.complex64).real
(torch.ones(3, dtype=torch.complex64) * 1j).imag
""",
    "reshape": """
x.reshape(6, 4)
x.reshape(-1)
x.reshape((4, 6))
x.reshape(shape=(4, 6))
torch.reshape(x, (4, 6))
torch.reshape(x, (-1,))
torch.reshape(x, [2, -1])
torch.reshape(input=x, shape=(4, 6))
x.reshape(5, 5)
x.reshape(5, -1)
x.reshape(-1, -1)
y.reshape(24)
y.reshape(4, 6)
y.reshape(8, 3)
e.reshape(6)
z.reshape(-1, 3)
z.reshape(0)
s.reshape(1)
s.reshape(())
s.reshape(-1)
s.reshape(2)
y.reshape(24).is_contiguous()
x.reshape(6, 4)._base is x
y.reshape(24)._base is None
y.reshape(4, 2, 3)._base is x
g.reshape(6, 4)
g.reshape(2, 3, 4)
x.reshape(2, 3, 4) is x
""",
    "permute": """
g.permute(2, 0, 1).reshape(24)
x.permute(2, 0, 1)
x.permute((2, 0, 1))
x.permute([2, 0, 1])
x.permute(-1, 0, 1)
x.permute(dims=(2, 0, 1))
torch.permute(x, (2, 0, 1))
x.permute(2, 0)
x.permute(2, 0, 0)
x.permute(2, 0, 3)
x.permute(2, 0, 1, 3)
s.permute()
s.permute(())
z.permute(2, 0, 1)
g.permute(2, 0, 1)
x[:1].permute(1, 0, 2).is_contiguous()
z.permute(2, 1, 0).is_contiguous()
g.permute(2, 0, 1).clone()
g.permute(2, 0, 1).contiguous()
""",
    "flatten": """
x.flatten()
x.flatten(1)
x.flatten(0, 1)
x.flatten(1, 1)
x.flatten(1, 1) is x
x.flatten(2, 1)
x.flatten(-2, -1)
x.flatten(start_dim=1)
x.flatten(0, 3)
s.flatten()
y.flatten()
y.flatten(1)
z.flatten()
z.flatten(1)
g.flatten()
torch.flatten(x, 1)
v.flatten() is v
""",
    "ravel": """
x.ravel()
y.ravel()
x.ravel() is x
v.ravel() is v
""",
    "unflatten": """
x.unflatten(2, (2, 2))
x.unflatten(2, (2, -1))
x.unflatten(-1, (2, 2))
x.unflatten(2, (3, 2))
x.unflatten(2, (-1, -1))
x.unflatten(5, (2, 2))
x.unflatten(2, ())
x.unflatten(2, (4,))
x.unflatten(2, [2, 2])
x.unflatten(2, (3, -1))
g.unflatten(2, (2, 2))
y.unflatten(0, (2, 2))
torch.unflatten(x, 2, (2, 2))
""",
    "squeeze": """
x.squeeze(0)
x.squeeze(3)
x.squeeze((0, 0))
s.squeeze()
s.squeeze(0)
s.squeeze(-1)
s.squeeze(1)
g.squeeze(0)
""",
    "unsqueeze": """
x.unsqueeze(0)
x.unsqueeze(1)
x.unsqueeze(3)
x.unsqueeze(-1)
x.unsqueeze(-4)
x.unsqueeze(4)
x.unsqueeze(-5)
y.unsqueeze(0)
y.unsqueeze(1)
y.unsqueeze(2)
y.unsqueeze(3)
e.unsqueeze(0)
e.unsqueeze(1)
e.unsqueeze(2)
s.unsqueeze(0)
s.unsqueeze(1)
z.unsqueeze(0)
z.unsqueeze(1)
z.unsqueeze(-1)
g.unsqueeze(0)
x.unsqueeze(dim=1)
x.unsqueeze(1.5)
""",
    "transpose": """
x.transpose(0, 1)
x.transpose(-1, 0)
x.transpose(0, 3)
x.transpose(0, 0)
torch.transpose(x, 0, 2)
x.transpose(dim0=0, dim1=1)
s.transpose(0, 0)
s.transpose(0, -1)
s.transpose(0, 1)
z.transpose(1, 2)
g.transpose(0, 1)
""",
    "t": """
x[0].t()
v.t()
s.t()
x.t()
g[0].t()
""",
    "T": """
x[0].T
x.T
v.T
s.T
g[0].T
""",
    "mT": """
x.mT
v.mT
s.mT
g.mT
""",
    "H": """
x.H
x[0].H
v.H
s.H
""",
    "movedim": """
x.movedim(0, 2)
x.movedim((0, 1), (2, 0))
x.movedim(0, (1, 2))
x.movedim((0, 0), (1, 2))
x.movedim((0, 1), (2, 2))
x.movedim(-1, 0)
x.movedim(5, 0)
torch.movedim(x, 0, 2)
g.movedim(0, 2)
s.movedim(0, 0)
x.movedim(0, 1)
""",
    "stride": """
y.stride(0)
y.stride(-1)
y.stride(3)
y.stride(dim=1)
s.stride()
s.stride(0)
""",
    "size": """
x.size(1)
x.size(-1)
x.size(dim=2)
x.size(3)
s.size(0)
s.size()
x.size()
""",
    "is_contiguous": """
x.is_contiguous()
y.is_contiguous()
e.is_contiguous()
x[:, :1].is_contiguous()
s.is_contiguous()
""",
    "zeros": """
torch.zeros(2, 3, 4, 5).is_contiguous(memory_format=torch.channels_last)
torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last).is_contiguous(memory_format=torch.channels_last)
torch.zeros(2, 1, 4, 5).is_contiguous(memory_format=torch.channels_last)
torch.zeros(2, 3, 1, 1).is_contiguous(memory_format=torch.channels_last)
torch.zeros(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last).contiguous()
torch.zeros(2, 3, 1, 1).to(memory_format=torch.channels_last)
torch.zeros(2, 3, 4).contiguous(memory_format=torch.channels_last)
""",
    "contiguous": """
y.contiguous()
y.contiguous().is_contiguous()
x.contiguous() is x
y.contiguous() is y
e.contiguous()
g.contiguous() is g
""",
    "clone": """
y.clone()
e.clone()
x.clone()
x[:, :, ::2].clone()
x[:, ::2, :].permute(1, 2, 0).clone()
y.clone(memory_format=torch.contiguous_format)
torch.clone(y)
s.clone()
z.clone()
g.clone()
w = g.clone(); w.detach_(); w.requires_grad
v.clone().resize_(2, 3).stride()
""",
    "to": """
y.to(torch.int64)
x.to(torch.float32) is x
x.to('cpu') is x
x.to('cpu', torch.float64)
x.to(torch.device('cpu')) is x
x.to(x) is x
x.to(v.double())
x.to(dtype=torch.int8)
x.to(device='cpu', dtype=torch.int8)
x.to(torch.float32, copy=True) is x
x.to(torch.float32, False, True) is x
x.to('cpu', torch.float32, False, True) is x
x.to(torch.float64, memory_format=torch.contiguous_format)
y.to(torch.float64, memory_format=torch.contiguous_format)
y.to(memory_format=torch.contiguous_format)
g.to(torch.float32)
g.to(torch.int64)
g.to(torch.float64) is g
""",
    "tensor": """
torch.tensor([1.7, -1.7]).int()
torch.tensor([float('nan'), 1]).bool()
torch.tensor([300.5]).byte()
torch.tensor([300, -1]).byte()
torch.tensor([300, -1]).to(torch.int8)
torch.tensor([1 + 2j]).float()
torch.tensor([10000000000.0]).half()
""",
    "view_as_complex": """
torch.view_as_complex(torch.ones(3, 2))
torch.view_as_complex(torch.ones(3))
torch.view_as_complex(torch.ones(3, 2, dtype=torch.int64))
torch.view_as_complex(torch.ones(2, 3).t())
""",
    "flip": """
x.flip(0)
x.flip(0, 1)
x.flip((0, 2))
x.flip([0])
x.flip(-1)
x.flip(3)
x.flip(0, 0)
x.flip()
s.flip()
s.flip(0)
z.flip(0)
y.flip(0)
g.flip(0)
torch.flip(x, (0,))
torch.flip(x, dims=[0])
""",
    "resize_": """
v.resize_(2, 2)
v.resize_(8).shape
v.resize_((2,))
g.resize_(3)
""",
}


@pytest.mark.parametrize("group", CASES)
def test_cases(same_lines, group):
    same_lines(CASES[group], SETUP)
