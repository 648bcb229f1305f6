"""A network on cuda gives what it gives on the CPU: forward, one training step, and the same bits when repeated."""
import numpy as np
import pytest

import tritium as torch
from tritium import models, nn, optim

pytestmark = pytest.mark.cuda_only


def _network(device):
    torch.manual_seed(0)
    with torch.device("cpu"):
        net = models.resnet18(num_classes=3)
        images = torch.randn(2, 3, 32, 32)
    return net.to(device), images.to(device), torch.tensor([0, 2], device=device)


def _step(device):
    """In float64: batch norm over the two values that are left at the end amplifies every rounding."""
    net, images, labels = _network(device)
    net, images = net.double(), images.double()
    optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    out = net(images)
    loss = nn.functional.cross_entropy(out, labels)
    loss.backward()
    optimizer.step()
    state = {k: v.cpu().numpy() for k, v in net.state_dict().items()}
    return out.detach().cpu().numpy(), loss.item(), state


def test_a_training_step_of_resnet18_is_the_cpu_s_and_repeats():
    out, loss, state = _step("cuda")
    want_out, want_loss, want_state = _step("cpu")
    np.testing.assert_allclose(out, want_out, rtol=1e-9, atol=1e-9)
    assert loss == pytest.approx(want_loss, rel=1e-9)
    for name, want in want_state.items():
        np.testing.assert_allclose(state[name], want, rtol=1e-6, atol=1e-6, err_msg=name)
    again_out, again_loss, again = _step("cuda")
    assert loss == again_loss and (out == again_out).all() and all((state[k] == again[k]).all() for k in state)


def test_evaluation_of_resnet18_is_the_cpu_s():
    outs = []
    for device in ("cpu", "cuda"):
        net, images, _ = _network(device)
        with torch.no_grad():
            outs.append(net.eval()(images).cpu().numpy())
    np.testing.assert_allclose(outs[1], outs[0], rtol=1e-4, atol=1e-4)
