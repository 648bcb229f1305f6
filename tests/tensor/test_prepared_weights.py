"""Weights that are kept ready for convolutions, beside captured graphs, which write and read unnoticed."""
import numpy as np
import pytest

import tritium as torch
from tritium import nn

pytestmark = pytest.mark.cuda_only


def plain(m, x):
    """The convolution without anything kept."""
    with torch.enable_grad():
        return m(x.detach().requires_grad_()).detach().cpu().numpy()


def test_a_replay_that_writes_the_weight():
    torch.manual_seed(0)
    m = nn.Conv2d(4, 4, 3, groups=4)
    x = torch.randn(2, 4, 5, 5)
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with torch.no_grad():
        m(x)
        with torch.cuda.stream(stream), torch.cuda.graph(graph):
            m.weight.mul_(2.0)
        m(x)
        graph.replay()
        got = m(x).cpu().numpy()
    np.testing.assert_allclose(got, plain(m, x), 1e-5, 1e-5)


def test_a_captured_evaluation_follows_its_weights():
    torch.manual_seed(0)
    m = nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.ReLU()).eval()
    x = torch.randn(2, 4, 5, 5)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad():
        m(x)
        with torch.cuda.graph(graph):
            y = m(x)
        for p in m.parameters():
            p.mul_(2.0)
        graph.replay()
        np.testing.assert_allclose(y.cpu().numpy(), plain(m, x), 1e-5, 1e-5)
