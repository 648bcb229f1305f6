"""Autocast: the state and its functions, regions, the weights kept in low precision, what is not cast, backward."""
import re
import threading
import warnings

import numpy as np
import pytest

import tritium as torch
from tritium.tensor.autocast import LISTED, amp, here


@pytest.fixture
def low(device):
    """The lower precision of this run's device."""
    return torch.bfloat16 if device == "cpu" else torch.float16


@pytest.fixture(autouse=True)
def _nothing_is_left(device):
    yield
    assert not here.cpu and not here.cuda and not here.nesting and not here.cache and not here.entered
    assert amp.on == 0
    assert (here.cpu_dtype, here.cuda_dtype, here.cache_enabled) == (torch.bfloat16, torch.float16, True)


def test_regions(device, low) -> None:
    a = torch.ones(2, 2)
    other = "cuda" if device == "cpu" else "cpu"
    assert (a @ a).dtype is torch.float32
    with torch.autocast(device) as region:
        assert torch.is_autocast_enabled(device) and not torch.is_autocast_enabled(other)
        assert region.fast_dtype is low and (a @ a).dtype is low
        with torch.autocast(device, enabled=False):
            assert not torch.is_autocast_enabled(device) and (a @ a).dtype is torch.float32
            with torch.autocast(device, torch.bfloat16):
                assert (a @ a).dtype is torch.bfloat16 and torch.get_autocast_dtype(device) is torch.bfloat16
        assert (a @ a).dtype is low and torch.get_autocast_dtype(device) is low
        with region:  # the same one again
            assert (a @ a).dtype is low
        assert (a @ a).dtype is low
    assert (a @ a).dtype is torch.float32


def test_another_devices_region_changes_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        region = torch.autocast("cuda")
    a = torch.ones(2, 2, device="cpu")
    with region:
        assert (a @ a).dtype is torch.float32


def test_an_error_leaves_the_region(device) -> None:
    with pytest.raises(ZeroDivisionError), torch.autocast(device):
        1 / 0  # noqa: B018


def test_decorator(device, low) -> None:
    class Net(torch.nn.Module):
        @torch.autocast(device)
        def forward(self, x, depth=2):
            """Doc."""
            return (x @ x, *(self(x, depth - 1) if depth else ()))

    assert Net.forward.__name__ == "forward" and Net.forward.__doc__ == "Doc."
    assert [y.dtype for y in Net()(torch.ones(2, 2))] == [low] * 3


def test_threads(device) -> None:
    seen = []

    def work():
        seen.append((torch.is_autocast_enabled(device), (torch.ones(2, 2) @ torch.ones(2, 2)).dtype))
        with torch.autocast(device, torch.bfloat16):
            seen.append((torch.is_autocast_enabled(device), (torch.ones(2, 2) @ torch.ones(2, 2)).dtype))

    default = torch.get_default_device()
    with torch.autocast(device):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert torch.get_default_device() == default
    assert seen == [(False, torch.float32), (True, torch.bfloat16)]


def test_functions_of_the_state(device, low) -> None:
    a = torch.ones(2, 2)
    torch.set_autocast_enabled(device, True)
    torch.set_autocast_dtype(device, torch.bfloat16)
    try:
        assert (a @ a).dtype is torch.bfloat16
    finally:
        torch.set_autocast_enabled(device, False)
        torch.set_autocast_dtype(device, low)
    torch.set_autocast_enabled(False)  # the older form: cuda
    assert torch.is_autocast_cache_enabled()
    with torch.autocast(device, cache_enabled=False):
        assert not torch.is_autocast_cache_enabled()
    with pytest.raises(RuntimeError, match="device type at start of device string: nothing"):
        torch.autocast("nothing")


@pytest.mark.cpu_only
def test_unsupported_dtypes() -> None:
    with pytest.warns(UserWarning, match="In CPU autocast, but the target dtype is not supported. Disabling autocast."):
        region = torch.autocast("cpu", torch.float32)
    with region:
        assert not torch.is_autocast_enabled("cpu")


def test_weights_are_cast_once(device, low) -> None:
    w, frozen, x = torch.ones(2, 2, requires_grad=True), torch.ones(2, 2), torch.ones(2, 2)
    with torch.autocast(device):
        x @ w
        kept = here.cache[id(w)][2]
        y = x @ w
        with torch.autocast(device):
            y = y + w @ w
        assert here.cache[id(w)][2] is kept and kept.dtype is low  # until the outermost region ends
        x @ frozen
        frozen @ w.t()
        x @ (w * 2)
        assert len(here.cache) == 1  # no leaf, or no gradient, or a view: not kept
    assert not here.cache
    y.float().sum().backward()
    assert w.grad.dtype is torch.float32 and w.grad.tolist() == [[6.0, 6.0], [6.0, 6.0]]
    with torch.autocast(device, cache_enabled=False):
        x @ w
        assert not here.cache


def test_a_kept_weight_follows_changes_and_the_grad_mode(device) -> None:
    w, x = torch.ones(2, 2, requires_grad=True), torch.ones(2, 2)
    with torch.autocast(device):
        with torch.no_grad():
            x @ w
        y = x @ w  # the first cast was not recorded
        assert y.requires_grad
        with torch.no_grad():
            w += 1
        assert (x @ w).tolist() == [[4.0, 4.0], [4.0, 4.0]]
    y.sum().backward()
    assert w.grad is not None


def test_what_is_not_cast(device) -> None:
    a = torch.ones(2, 2)
    with torch.autocast(device):
        assert (a.double() @ a.double()).dtype is torch.float64
        assert torch.mm(a, a, out=torch.empty(2, 2)).dtype is torch.float32
        assert torch.matmul(a, a, out=torch.empty(2, 2)).dtype is torch.float32
        assert torch.ones(2, 2).addmm_(a, a).dtype is torch.float32
        half = torch.ones(2, dtype=torch.float16)
        assert half.exp_().dtype is torch.float16 and half.pow_(2).dtype is torch.float16
        assert (a + a).dtype is torch.float32 and (half + half).dtype is torch.float16
        if device == "cpu":
            assert (a.long() @ a.long()).dtype is torch.int64


def test_backward_uses_the_recorded_dtypes(device, low) -> None:
    """The derivatives of float32 operations stay float32 products, also inside a region."""
    rng = np.random.default_rng(0)
    a, b = (torch.tensor(rng.standard_normal((3, 3)).astype(np.float32).tolist(), requires_grad=True) for _ in "ab")
    y = (a @ b).sum()
    exact = torch.autograd.grad(y, (a, b), retain_graph=True)
    with torch.autocast(device):
        inside = torch.autograd.grad(y, (a, b))
        z = a @ b
        z.sum().backward()
    for g, e in zip(inside, exact, strict=True):
        assert g.dtype is torch.float32 and torch.equal(g, e)
    assert z.dtype is low and a.grad.dtype is torch.float32
    np.testing.assert_allclose(a.grad.cpu().numpy(), exact[0].cpu().numpy(), rtol=1e-2, atol=1e-2)


def test_double_backward(device) -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    with torch.autocast(device):
        y = (x @ x).float().sum()
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    (gg,) = torch.autograd.grad(g.sum(), x)
    assert g.dtype is gg.dtype is torch.float32 and gg.tolist() == [[4.0, 4.0], [4.0, 4.0]]


def test_checkpoint_repeats_the_state(device, low) -> None:
    from tritium.utils.checkpoint import checkpoint

    w = torch.ones(2, 2, requires_grad=True)
    x = torch.ones(2, 2, requires_grad=True)
    seen = []

    def part(x):
        y = x @ w
        seen.append(y.dtype)
        return y

    with torch.autocast(device):
        y = checkpoint(part, x, use_reentrant=True)
    y.sum().backward()
    assert seen == [low, low] and w.grad.dtype is torch.float32


def test_custom_functions(device, low) -> None:
    seen = []

    class Product(torch.autograd.Function):
        @staticmethod
        @torch.amp.custom_fwd(device_type=device)
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return a @ b

        @staticmethod
        @torch.amp.custom_bwd(device_type=device)
        def backward(ctx, g):
            a, b = ctx.saved_tensors
            seen.append((torch.is_autocast_enabled(device), g.dtype))
            return g @ b.t(), a.t() @ g

    class Exact(torch.autograd.Function):
        @staticmethod
        @torch.amp.custom_fwd(device_type=device, cast_inputs=torch.float32)
        def forward(ctx, a, pair, word):
            seen.append((torch.is_autocast_enabled(device), a.dtype, pair[0].dtype, word))
            return a @ a

        @staticmethod
        @torch.amp.custom_bwd(device_type=device)
        def backward(ctx, g):
            seen.append((torch.is_autocast_enabled(device), g.dtype))
            return g, None, None

    a = torch.ones(2, 2, requires_grad=True)
    with torch.autocast(device):
        y = Product.apply(a, a)
    assert y.dtype is low
    y.sum().backward()
    assert seen.pop() == (True, low)
    Product.apply(a, a).sum().backward()
    assert seen.pop() == (False, torch.float32)
    x = torch.ones(2, 2, dtype=low, requires_grad=True)
    with torch.autocast(device):
        y = Exact.apply(x, (x, 1), "word")
    assert y.dtype is torch.float32 and seen.pop() == (False, torch.float32, torch.float32, "word")
    y.sum().backward()
    assert seen.pop() == (False, torch.float32) and x.grad.dtype is low
    assert Exact.apply(x, (x, 1), "word").dtype is low and seen.pop()[0] is False  # outside of regions: no cast


def test_every_listed_op_of_this_library_asks() -> None:
    """A function with a name that is on a list looks at the state under that name."""
    from pathlib import Path

    rooms = (Path(torch.__file__).parent / "tensor" / "ops", Path(torch.__file__).parent / "nn")
    code = " ".join(path.read_text() for room in rooms for path in room.rglob("*.py"))
    asked = set(re.findall(r'amp\.run\(\s*"(\w+)"', code))
    asked |= set(re.findall(r'= unary_op\("(\w+)"', code))  # these ask by the name they are made with
    asked |= {name for name in LISTED if name.startswith(("conv", "reflection_pad", "replication_pad"))}  # so do these
    asked |= {"vdot", "norm"}  # made of dot and vector_norm
    there = {name for name in LISTED for space in (torch, torch.nn.functional, torch.linalg) if hasattr(space, name)}
    assert not there - asked
    assert "relu" not in LISTED and "add" not in LISTED


def test_layers_and_fused_blocks(device, low) -> None:
    """The dtypes of a network's layers, trained and evaluated: blocks that are folded into one otherwise too."""
    nn = torch.nn
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(3, 2))
    x = torch.ones(2, 2, 4, 4)
    for training in (True, False):
        net.train(training)
        seen = []
        handles = [layer.register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out.dtype))
                   for layer in net]
        with torch.autocast(device):
            out = net(x)
        assert seen == [low] * 6 and net[1].running_mean.dtype is torch.float32
        for handle in handles:
            handle.remove()
        with torch.autocast(device), torch.no_grad():
            assert net(x).dtype is low
            np.testing.assert_allclose(net.eval()(x).float().cpu().numpy(), _plain(net, x, device), rtol=3e-2,
                                       atol=3e-2)
        net.train(training)
        out.float().sum().backward()
        assert all(p.grad.dtype is torch.float32 for p in net.parameters())


def test_a_folded_block_in_low_precision(device, low) -> None:
    """Evaluated without gradients, convolution, batch norm, residual and activation are one operation, in the region's
    dtype, and its weights are made ready for that dtype once."""
    from tritium.models.resnet import BasicBlock
    from tritium.tensor.ops import conv_weights

    torch.manual_seed(0)
    block = BasicBlock(4, 4).eval()
    for norm in (block.bn1, block.bn2):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        exact = block(x)
        with torch.autocast(device):
            handle = block.bn1.register_forward_hook(lambda *_: None)  # keeps the ops apart
            apart = block(x.to(low))
            handle.remove()
            folded = block(x.to(low))
            kept = conv_weights._entries[id(block.conv1.weight)].prepared
            again = block(x.to(low))
            assert conv_weights._entries[id(block.conv1.weight)].prepared is kept
            assert block(x).dtype is low  # the shortcut is in float32
        back = block(x)
    assert apart.dtype is folded.dtype is low and torch.equal(folded, again)
    assert torch.equal(back, exact) and back.dtype is torch.float32
    for result in (apart, folded):
        np.testing.assert_allclose(result.float().cpu().numpy(), exact.cpu().numpy(), rtol=5e-2, atol=5e-2)


def _plain(net, x, device):
    with torch.autocast(device, enabled=False):
        return net(x).cpu().numpy()
