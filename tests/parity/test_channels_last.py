"""Channels-last through ops, layers and gradients against PyTorch: values and strides."""

import pytest

pytest.importorskip("torch")

SETUP = """
F, nn = torch.nn.functional, torch.nn
def data(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))
L = torch.channels_last
x = data(2, 4, 5, 6)
c = data(2, 4, 5, 6, seed=1).contiguous(memory_format=L)
"""
CODE = """c.to(torch.float32); x.to(memory_format=L); x.to(torch.float32, memory_format=L); c.contiguous()
c.to(memory_format=torch.contiguous_format); c.float(); c.clone(); c.clone(memory_format=torch.contiguous_format)
torch.zeros_like(c); torch.ones_like(c, memory_format=torch.contiguous_format); torch.zeros_like(x, memory_format=L)
torch.full_like(c[:, ::2], 3.0); [c.is_contiguous(), c.is_contiguous(memory_format=L), x.is_contiguous(memory_format=L)]
c + c; c + 1; c + x; x + c; c * data(4, 1, 1); c.relu(); c.exp(); c > 0; torch.where(c > 0, c, x); c.clamp(0); -c
torch.where(x > 0, c, c); c.pow(2); c.mul(2).add_(1); c.lerp(c, 0.5); torch.maximum(c, x); c.clone().relu_()
F.gelu(c); F.silu(c); F.hardswish(c); F.relu6(c); F.leaky_relu(c); F.pad(c, (1, 1, 1, 1)); torch.cat([c, c], 1)
F.max_pool2d(c, 2); F.avg_pool2d(c, 2); F.adaptive_avg_pool2d(c, 2); F.conv2d(c, data(3, 4, 3, 3))
F.conv2d(c, data(3, 4, 1, 1)); F.conv2d(x, data(3, 4, 3, 3).contiguous(memory_format=L))
F.batch_norm(c, None, None, training=True); F.batch_norm(c, data(4), data(4).abs()); F.instance_norm(c)"""


@pytest.mark.parametrize("code", [c.strip() for c in CODE.replace("\n", "; ").split("; ")])
def test_results(same, code):
    same(code, SETUP)


@pytest.mark.parametrize("layer", [
    "nn.Conv2d(4, 6, 3)", "nn.Conv2d(4, 6, 1)", "nn.Conv2d(4, 6, 1, 2)", "nn.Conv2d(4, 6, 3, 2, 1)",
    "nn.Conv2d(4, 4, 3, groups=4)", "nn.Conv2d(4, 8, 3, groups=2)", "nn.Conv2d(4, 6, (1, 3), dilation=2)",
    "nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(inplace=True))",
    "nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2))",
])  # fmt: skip
@pytest.mark.parametrize("last", [True, False])
def test_gradients_of_layers(same, layer, last):
    """Weights of either layout; gradients of channels-last weights are channels-last."""
    same(f"""
layer = {layer}.double()
for i, p in enumerate(layer.parameters()):
    p.data.copy_(data(*p.shape, seed=i + 2))
layer.to(memory_format=L if {last} else torch.contiguous_format)
v = (c if {last} else x).clone().requires_grad_()
y = layer(v)
y.square().sum().backward()
[y, v.grad, *[p.grad for p in layer.parameters()], *[p.detach() for p in layer.parameters()]]
""", SETUP, tolerance=1e-8, skip=["node"])  # fmt: skip
