"""What is tuned: products and convolutions by their sizes, and those of the networks of ``models``."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

OPS = {"matmul": ("nn", "nt", "tn"), "conv": ("forward", "fused", "residual", "dgrad", "wgrad"),
       "attention": ("forward", "backward")}
NETWORKS = ("resnet18", "resnet50", "mobilenet_v2")
SQUARES = (512, 1024, 2048, 4096, 8192)
DTYPES = ("bf16", "fp16", "tf32", "fp32")


@dataclass(frozen=True)
class Problem:
    """``shape``: (M, N, K) of a product; (N, C, H, W, O, kernel, stride, padding, groups) of a convolution; (batch,
    heads, length, width, causal) of attention. ``count``: how often a network has it.

    ``op``: of a product "nn", "nt" or "tn", as BLAS names layouts; of a convolution "forward", "fused" (with a folded
    batch norm and ReLU), "residual" (with an addend too), "dgrad" or "wgrad"; of attention "forward" or "backward"."""

    family: str
    op: str
    shape: tuple[int, ...]
    dtype: str
    count: int = 1

    def __str__(self) -> str:
        if self.family == "conv":
            n, c, h, w, o, k, stride, padding, groups = self.shape
            text = f"{n}x{c}x{h}x{w} to {o}, {k}x{k}" + f" stride {stride}" * (stride > 1)
            text += f" groups {groups}" * (groups > 1)
        else:
            text = "x".join(map(str, self.shape))
        return f"{self.family} {self.op} {text} {self.dtype}"


# --- the layers of networks ---

@dataclass(frozen=True)
class Layer:
    """A convolution of a network for one image; ``last``: something is added to its result."""

    C: int
    H: int
    O: int
    kernel: int
    stride: int
    groups: int = 1
    last: bool = False

    def shape(self, batch: int) -> tuple[int, ...]:
        """The sizes of a Problem."""
        return batch, self.C, self.H, self.H, self.O, self.kernel, self.stride, self.kernel // 2, self.groups


def layers(network: str, size: int = 224) -> dict[Layer, int]:
    """The convolutions of a network and how often it has each. Raises ValueError for an unknown name."""
    if network not in NETWORKS:
        raise ValueError(f"no network is called {network}; there are {', '.join(NETWORKS)}")
    found: dict[Layer, int] = {}
    for layer in mobilenet_v2(size) if network == "mobilenet_v2" else resnet(network == "resnet50", size):
        found[layer] = found.get(layer, 0) + 1
    return found


def resnet(bottleneck: bool, size: int) -> Iterator[Layer]:
    """ResNet-18, or ResNet-50 with ``bottleneck`` blocks. https://arxiv.org/abs/1512.03385"""
    yield Layer(3, size, 64, 7, 2)
    channels, H = 64, -(-size // 4)
    for stage, blocks in enumerate((3, 4, 6, 3) if bottleneck else (2, 2, 2, 2)):
        width = 64 << stage
        out = width * (4 if bottleneck else 1)
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            if bottleneck:
                yield Layer(channels, H, width, 1, 1)
                yield Layer(width, H, width, 3, stride)
                yield Layer(width, -(-H // stride), out, 1, 1, last=True)
            else:
                yield Layer(channels, H, width, 3, stride)
                yield Layer(width, -(-H // stride), width, 3, 1, last=True)
            if stride > 1 or channels != out:
                yield Layer(channels, H, out, 1, stride)
            channels, H = out, -(-H // stride)


def mobilenet_v2(size: int) -> Iterator[Layer]:
    """MobileNetV2. https://arxiv.org/abs/1801.04381"""
    yield Layer(3, size, 32, 3, 2)
    channels, H = 32, -(-size // 2)
    for expand, out, blocks, first in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                       (6, 160, 3, 2), (6, 320, 1, 1)):
        for block in range(blocks):
            stride, hidden = (1 if block else first), channels * expand
            if expand > 1:
                yield Layer(channels, H, hidden, 1, 1)
            yield Layer(hidden, H, hidden, 3, stride, hidden)
            H = -(-H // stride)
            yield Layer(hidden, H, out, 1, 1, last=stride == 1 and channels == out)
            channels = out
    yield Layer(320, H, 1280, 1, 1)


HEADS = {"resnet18": 512, "resnet50": 2048, "mobilenet_v2": 1280}  # features of the last layer, which has 1000 classes


# --- from the command line ---

def collect(families: Iterable[str], shapes: Iterable[str], dtypes: Iterable[str], batches: Iterable[int],
            ops: Iterable[str] = ()) -> list[Problem]:
    """The problems that ``shapes`` name, each once: networks, "square", "M,N,K", nine sizes of a convolution, or files
    with a line for each. Raises ValueError for what is none of these, OSError for files."""
    families, dtypes, batches, ops = tuple(families), tuple(dtypes), tuple(batches), tuple(ops)
    found: dict[tuple[str, str, tuple[int, ...], str], int] = {}

    def add(family: str, op: str, shape: tuple[int, ...], count: int = 1) -> None:
        if family in families and (not ops or op in ops):
            for dtype in dtypes:
                if family != "attention" or dtype in ("bf16", "fp16"):
                    key = family, op, shape, dtype
                    found[key] = found.get(key, 0) + count

    def products(M: int, N: int, K: int, count: int = 1) -> None:
        """A product as a linear layer (M, K) to (M, N) has them: forward, gradients of the input and the weight."""
        add("matmul", "nt", (M, N, K), count)
        add("matmul", "nn", (M, K, N), count)
        add("matmul", "tn", (N, K, M), count)

    for shape in shapes:
        if shape in NETWORKS:
            for batch in batches:
                for layer, count in layers(shape).items():
                    for op in OPS["conv"]:
                        if not (op == "residual" and not layer.last or op == "dgrad" and layer.C == 3):
                            add("conv", op, layer.shape(batch), count)
                products(batch, 1000, HEADS[shape])
        elif shape == "square":
            for n in SQUARES:
                for op in OPS["matmul"]:
                    add("matmul", op, (n, n, n))
        elif shape == "attention":
            for length in (512, 2048, 8192):
                for width in (64, 128):
                    for causal in (0, 1):
                        for op in OPS["attention"]:
                            add("attention", op, (max(1, 16384 // length), 2048 // width, length, width, causal))
        else:
            for sizes in [numbers(shape)] if numbers(shape) else lines(shape):
                if len(sizes) == 3:
                    products(*sizes)
                elif len(sizes) == 5:
                    for op in OPS["attention"]:
                        add("attention", op, sizes)
                else:
                    for op in OPS["conv"]:
                        add("conv", op, sizes)
    return [Problem(*key, count) for key, count in found.items()]


def numbers(text: str) -> tuple[int, ...]:
    """The sizes in "M,N,K" and the like; () for another text. Raises ValueError for a wrong number of them."""
    try:
        sizes = tuple(int(word) for word in text.replace("x", ",").split(","))
    except ValueError:
        return ()
    if len(sizes) not in (3, 5, 9) or min(sizes[:3]) < 1 or min(sizes) < 0:
        raise ValueError(f"{text}: M,N,K of a product, N,C,H,W,O,kernel,stride,padding,groups of a convolution or "
                         "batch,heads,length,width,causal of attention were expected")
    if len(sizes) == 9:
        _, C, H, W, O, kernel, stride, padding, groups = sizes
        if not min(O, kernel, stride, groups) or C % groups or O % groups or min(H, W) + 2 * padding < kernel:
            raise ValueError(f"{text}: there is no convolution of these sizes")
    return sizes


def lines(path: str) -> list[tuple[int, ...]]:
    """The sizes in a file, a line for each; what follows a # is a comment."""
    if not Path(path).is_file():
        raise ValueError(f"{path} is not {', '.join(NETWORKS)}, square, attention, sizes like 4096,4096,4096, or a "
                         "file")
    found = []
    for i, line in enumerate(Path(path).read_text().splitlines(), 1):
        text = line.partition("#")[0].strip()
        if text:
            sizes = numbers(text)
            if not sizes:
                raise ValueError(f"{path}, line {i}: {text!r} are no sizes")
            found.append(sizes)
    return found
