"""In-place operations that are recorded, against PyTorch: gradients, views, versions, errors."""
import pytest

torch = pytest.importorskip("torch")

SETUP = """
D = torch.float64
x = torch.arange(1.0, 7, dtype=D).view(2, 3).requires_grad_()
w = torch.tensor([0.5, -1.0, 2.0], dtype=D, requires_grad=True)
def G(*ts):
    return [None if t.grad is None else t.grad.clone() for t in ts]
def names(f, depth=4):
    out = []
    while f is not None and depth:
        out.append(f.name())
        f = f.next_functions[0][0] if f.next_functions else None
        depth -= 1
    return out
"""

CASES = {
    "versions": """
z = x * 2; z.retain_grad(); z.add_(1); (z * z).sum().backward(); z.grad
y = x.exp(); y.add_(1); y.sum().backward()
y = x.exp(); y.mul_(2); y.sum().backward()
y = x * 1; z = y * w; y.add_(1); z.sum().backward()
y = x * 1; z = y.sin(); y.add_(1); z.sum().backward()
y = x * 1; z = y + w; y.add_(1); z.sum().backward(); G(x, w)
y = x * 1; z = y * w; y.data.add_(1); z.sum().backward(); G(x, w)
y = x.tanh(); y.zero_(); y.sum().backward(); G(x)
y = x.tanh(); y.relu_(); y.sum().backward()
y = x.relu(); y.mul_(2); y.sum().backward()
""",
    "ops": """
y = x @ w; w.data.mul_(2); y.sum().backward(); G(x, w)
y = x @ w; torch.set_grad_enabled(False); w.mul_(2); torch.set_grad_enabled(True); y.sum().backward()
y = (x * 1).pow(2); y.add_(1); y.sum().backward(); G(x)
y = x * 1; y.add_(1); y.mul_(w); (y * y).sum().backward(); G(x, w)
y = x * 1; y.mul_(2); y.div_(w); y.sum().backward(); G(x, w)
y = x * 1; y.sigmoid_(); y.sum().backward(); G(x)
y = x * 1; y.exp_(); y.sum().backward(); G(x)
y = x * 1; y.sub_(w, alpha=2); y.sum().backward(); G(x, w)
y = x * 1; y.fill_(3); y.sum().backward(); G(x)
y = x * 1; y.zero_(); y.sum().backward(); G(x)
y = x * 1; y.fill_(w[0]); (y * 2).sum().backward(); G(x, w)
y = x * 1; y.copy_(w); (y * 2).sum().backward(); G(x, w)
y = x * 2; y.detach_(); [y.requires_grad, y.is_leaf, y.grad_fn]
""",
    "into the graph": """
y = torch.zeros(2, 3, dtype=D); y.copy_(x); (y * 2).sum().backward(); G(x)
y = torch.zeros(2, 3); y.copy_(x); (y * 2).sum().backward(); G(x)
y = torch.zeros(2, 3, dtype=D); y[0] = w; (y * 2).sum().backward(); [G(w), y]
y = torch.zeros(2, 3, dtype=D); y[:, 1] = w[:2]; (y * 2).sum().backward(); [G(w), y]
y = torch.zeros(2, 3, dtype=D); y[0, 1] = w[2]; (y * 2).sum().backward(); [G(w), y]
y = torch.zeros(2, 3, dtype=D); y[torch.tensor([0, 0])] = w; (y * 2).sum().backward(); [G(w), y]
y = torch.zeros(2, 3, dtype=D); y[y == 0] = w[0]; (y * 2).sum().backward(); [G(w), y]
y = torch.zeros(2, 3, dtype=D); y[:, torch.tensor([2, 0])] = x[:, :2]; (y * x.detach()).sum().backward(); [G(x), y]
y = torch.zeros(2, 3, dtype=D); v = y[0]; v.add_(w); (y * y).sum().backward(); [G(w), y, v]
y = torch.zeros(2, 3, dtype=D); v = y[0]; y.add_(x); (v * v).sum().backward(); [G(x), y, v]
y = torch.zeros(2, 3, dtype=D); v = y[0]; y[0] = w; [v.requires_grad, v]
""",
    "assignment": """
y = x * 1; y[0] = w; (y * y).sum().backward(); [G(x, w), y]
y = x * 1; y[0] = 0; (y * y).sum().backward(); [G(x, w), y]
y = x * 1; y[:, 1] *= w[:2]; (y * 2).sum().backward(); [G(x, w), y]
y = x * 1; y[y > 3] = 0; (y * y).sum().backward(); [G(x), y]
y = x.clone(); y[0] = 1; y
""",
    "views": """
y = x * 1; y[torch.tensor([1])] += w; (y * y).sum().backward(); [G(x, w), y]
y = x * 1; v = y[0]; v.mul_(2); v.sum().backward(); G(x)
y = x * 1; v = y[0]; y.mul_(2); v.sum().backward(); [G(x), v]
y = x * 1; v = y.view(-1); y.mul_(w); (v * v).sum().backward(); [G(x, w), v]
y = x * 1; v = y[0]; u = y[:, 1]; v.mul_(3); (u * u).sum().backward(); [G(x), u]
y = x * 1; v = y[0]; u = v[1:]; u.mul_(3); (y * y).sum().backward(); [G(x), v, u]
y = x * 1; v = y[0]; u = v[1:]; y.mul_(3); (u * u).sum().backward(); [G(x), v, u]
""",
    "leaves": """
x.add_(1)
x[0] = 1
x.view(-1)[0] = 3
x[x > 2] = 0
x.zero_()
x.fill_(1)
x.copy_(torch.ones(2, 3, dtype=D))
x.t_()
x.unsqueeze_(0)
x.resize_(3)
x.data.add_(1); x
""",
}


@pytest.mark.parametrize("group", CASES)
def test_cases(same_lines, group):
    same_lines(CASES[group], SETUP)
