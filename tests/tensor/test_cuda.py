"""Tensors on cuda: between devices, in files, in print, and what must not happen silently."""
import copy
import io
import pickle

import numpy as np
import pytest

import tritium as torch
from tritium import nn
from tritium.kernels.array import NoKernel

pytestmark = pytest.mark.cuda_only


def test_between_devices():
    host = torch.arange(6.0, device="cpu").reshape(2, 3)
    x = host.to("cuda")
    assert x.device == torch.device("cuda", 0) and x.is_cuda and not x.is_cpu and x.get_device() == 0
    assert x.to("cuda") is x and x.cuda() is x and x.cuda(0) is x and x.to(torch.float32) is x
    assert x.cpu().tolist() == host.tolist() and x.cpu().is_cpu and host.cpu() is host
    assert x.to("cpu", torch.int32).dtype is torch.int32 and host.to(x).device == x.device
    assert x.type() == "torch.cuda.FloatTensor" and host.type("torch.cuda.IntTensor").dtype is torch.int32
    assert x.type(torch.FloatTensor).dtype is torch.float32
    t = host.t().to("cuda")
    assert t.stride() == (1, 3) and t.tolist() == host.t().tolist() and t.cpu().stride() == (1, 3)
    nchw = torch.ones(2, 3, 4, 5, device="cpu").contiguous(memory_format=torch.channels_last).cuda()
    assert nchw.is_contiguous(memory_format=torch.channels_last)
    assert torch.zeros(3, device=0).is_cuda and torch.ones_like(host, device="cuda").is_cuda
    assert host.new_zeros(2).is_cpu and x.new_zeros(2).is_cuda and torch.empty_like(x).is_cuda


def test_gradients_cross_devices():
    host = torch.ones(3, device="cpu", requires_grad=True)
    (host.to("cuda") * 2).sum().backward()
    assert host.grad.is_cpu and host.grad.tolist() == [2, 2, 2]
    x = torch.ones(3, requires_grad=True)
    (x.cpu() * 3).sum().backward()
    assert x.grad.is_cuda and x.grad.tolist() == [3, 3, 3]
    scale = torch.tensor(2.0, device="cpu", requires_grad=True)
    (torch.ones(3) * scale).sum().backward()
    assert scale.grad.is_cpu and scale.grad.item() == 3


def test_devices_do_not_mix():
    host, x = torch.ones(3, device="cpu"), torch.ones(3)
    words = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
    for call in (lambda: host + x, lambda: x + host, lambda: torch.where(x > 0, x, host), lambda: x.add_(host),
                 lambda: torch.cat([x, host]), lambda: x @ host, lambda: torch.equal(x, host)):
        with pytest.raises(RuntimeError, match=words):
            call()
    number = torch.tensor(2.0, device="cpu")
    assert (x * number).tolist() == [2, 2, 2] and (number * x).device == x.device
    assert x.copy_(host * 5).tolist() == [5, 5, 5]
    assert x[torch.tensor([0, 2], device="cpu")].tolist() == [5, 5]


def test_nothing_falls_back_to_the_host_silently():
    x = torch.ones(3)
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu"):
        np.asarray(x._a)
    for call in (lambda: np.sum(x._a), lambda: x._a + 1, lambda: x._a.mean(), lambda: np.concatenate([x._a, x._a])):
        with pytest.raises(NoKernel, match="has no Triton kernel"):
            call()
    with pytest.raises(NoKernel, match="complex"):
        torch.ones(2, dtype=torch.complex64) * 2


def test_text():
    x = torch.tensor([1.5, -2.0])
    assert repr(x) == "tensor([ 1.5000, -2.0000], device='cuda:0')"
    assert repr((x * 2).requires_grad_()) == "tensor([ 3., -4.], device='cuda:0', requires_grad=True)"
    assert f"{x[0]:.2f}" == "1.50" and "..." in repr(torch.zeros(100, 100, 20))
    assert repr(torch.zeros(100, 100, 20)).replace(", device='cuda:0'", "") == repr(torch.zeros(100, 100, 20, device="cpu"))


def test_copies_and_files(tmp_path):
    base = torch.arange(6.0)
    pair = {"a": base, "b": base[2:4], "c": base.to(torch.bfloat16)}
    twin = copy.deepcopy(pair)
    twin["a"][2] = 9
    assert twin["b"][0] == 9 and base[2] == 2 and twin["b"].is_cuda
    again = pickle.loads(pickle.dumps(base.requires_grad_()))
    assert again.is_cuda and again.requires_grad and again.tolist() == base.tolist()
    file = io.BytesIO()
    torch.save(pair, file)
    for place, kind in ((None, "cuda"), ("cpu", "cpu"), ({"cuda:0": "cpu"}, "cpu"), (torch.device("cuda"), "cuda")):
        file.seek(0)
        found = torch.load(file, map_location=place)
        assert {t.device.type for t in found.values()} == {kind}
        assert found["b"].tolist() == [2, 3] and found["c"].dtype is torch.bfloat16
        with torch.no_grad():
            found["a"][3] = 7
        assert found["b"].tolist() == [2, 7]
    torch.save({"w": base.detach()}, tmp_path / "x.safetensors")
    net = nn.Linear(3, 2)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    other = nn.Linear(3, 2, device="cpu")
    other.load_state_dict(torch.load(tmp_path / "net.pth", map_location="cpu"))
    other.cuda()
    assert torch.equal(other.weight, net.weight) and other.weight.is_cuda and other.weight.is_leaf


def test_pinned_memory():
    host = torch.arange(10.0, device="cpu")
    pinned = host.pin_memory()
    assert pinned.is_pinned() and not host.is_pinned() and pinned.pin_memory() is pinned
    assert pinned.to("cuda", non_blocking=True).tolist() == host.tolist()
    with pytest.raises(RuntimeError, match="only dense CPU tensors can be pinned"):
        torch.ones(2).pin_memory()


def test_memory_is_counted_and_returned():
    before = torch.cuda.memory_allocated()
    x = torch.ones(1000)
    assert torch.cuda.memory_allocated() - before == 4096
    y = x[10:20]
    del x
    assert torch.cuda.memory_allocated() - before == 4096
    del y
    assert torch.cuda.memory_allocated() == before
    torch.cuda.reset_peak_memory_stats()
    torch.ones(1 << 20)
    assert torch.cuda.max_memory_allocated() - before >= 4 << 20


@pytest.mark.emulated_only
def test_out_of_memory_is_an_error_and_no_end():
    with pytest.raises(torch.cuda.OutOfMemoryError, match="Tried to allocate"):
        torch.empty(1 << 50, dtype=torch.uint8)
    assert torch.ones(2).sum() == 2


def test_streams():
    s = torch.cuda.Stream()
    with torch.cuda.stream(s):
        x = torch.ones(100) * 3
        event = s.record_event()
    torch.cuda.current_stream().wait_event(event)
    y = x + 1
    x.record_stream(torch.cuda.current_stream())
    torch.cuda.synchronize()
    assert y.sum() == 400
    with pytest.raises(RuntimeError, match="expected a cuda tensor"):
        torch.ones(2, device="cpu").record_stream(s)


def test_a_graph_is_captured_and_replayed():
    x = torch.zeros(4)
    y = x * 2 + 1  # warm up
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = x * 2 + 1
    x.copy_(torch.arange(4.0))
    graph.replay()
    assert y.tolist() == [1, 3, 5, 7]


def test_in_place_operations_keep_the_address_also_in_a_graph():
    x = torch.ones(4)
    address = x.data_ptr()
    for change in (lambda: x.exp_(), lambda: x.add_(1), lambda: x.clamp_(0, 2), lambda: x.fill_(1), lambda: x.neg_()):
        change()
        assert x.data_ptr() == address
    x.fill_(1)
    x.square_()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        x.mul_(3).sqrt_().square_()
    x.fill_(1)
    for _ in range(3):
        graph.replay()
    assert x.data_ptr() == address and [round(v, 3) for v in x.tolist()] == [27.0] * 4


def test_default_device():
    assert torch.zeros(2).is_cuda and torch.get_default_device().type == "cuda"
    with torch.device("cpu"):
        assert torch.zeros(2).is_cpu and nn.Linear(2, 2).weight.is_cpu
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        torch.zeros(2, device="cuda:7")


def test_a_training_step_of_a_small_network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    x, target = torch.randn(16, 4), torch.randn(16, 3)
    loss = (net(x) - target).square().mean()
    loss.backward()
    before = loss.item()
    with torch.no_grad():
        for p in net.parameters():
            p -= 0.1 * p.grad
    net.eval()
    assert all(p.grad.is_cuda for p in net.parameters()) and (net(x) - target).square().mean().item() < before * 1.5
