"""Transforms of images; mirrors ``torchvision.transforms`` (the first version of its interface).

Each is a callable that prints as its torchvision namesake does. The random ones draw from tritium's generator, in
torchvision's order, so that a seeded pipeline makes the same crops and flips.
"""
from __future__ import annotations

import math
import numbers
import warnings
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from tritium.data.transforms import functional as F
from tritium.data.transforms.functional import InterpolationMode, as_interpolation
from tritium.tensor.creation import empty
from tritium.tensor.dtype import dtype as DType
from tritium.tensor.from_data import tensor
from tritium.tensor.ops.random import rand, randint, randperm


class Transform:
    """Base class: a subclass gives ``forward(img)``."""

    def __call__(self, img: Any) -> Any:
        return self.forward(img)

    def forward(self, img: Any) -> Any:
        """The transformed image."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Compose(Transform):
    """One transform after the other."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def forward(self, img: Any) -> Any:
        for transform in self.transforms:
            img = transform(img)
        return img

    def __repr__(self) -> str:
        return "\n".join([f"{type(self).__name__}(", *(f"    {t}" for t in self.transforms), ")"])


class ToTensor(Transform):
    """A Pillow image or an array [H, W, C] of bytes as a float tensor [C, H, W] from 0 to 1 (see functional)."""

    def forward(self, img: Any) -> Any:
        return F.to_tensor(img)


class PILToTensor(Transform):
    """A Pillow image as a tensor [C, H, W] of its own type."""

    def forward(self, img: Any) -> Any:
        return F.pil_to_tensor(img)


class ConvertImageDtype(Transform):
    """A tensor image in another type, its values scaled (see functional). Prints its dtype, which torchvision's does
    not: a pipeline is told apart by what it prints."""

    def __init__(self, dtype: DType) -> None:
        self.dtype = dtype

    def forward(self, img: Any) -> Any:
        return F.convert_image_dtype(img, self.dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(dtype={self.dtype})"


class ToPILImage(Transform):
    """A tensor [C, H, W] or an array [H, W, C] as a Pillow image."""

    def __init__(self, mode: str | None = None) -> None:
        self.mode = mode

    def forward(self, img: Any) -> Any:
        return F.to_pil_image(img, self.mode)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.mode is None else f'mode={self.mode}'})"


class Normalize(Transform):
    """(image - mean) / std, channel by channel, of a float tensor; on a copy unless ``inplace``."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], inplace: bool = False) -> None:
        self.mean = mean
        self.std = std
        self.inplace = inplace

    def forward(self, img: Any) -> Any:
        return F.normalize(img, self.mean, self.std, self.inplace)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(mean={self.mean}, std={self.std})"


class Resize(Transform):
    """Resize a Pillow image: ``size`` is (height, width), or the length of the shorter side, with the longer one
    bounded by ``max_size``. Pillow always uses antialiasing."""

    def __init__(self, size: int | Sequence[int], interpolation: Any = InterpolationMode.BILINEAR,
                 max_size: int | None = None, antialias: bool | None = True) -> None:
        if not isinstance(size, (int, Sequence)):
            raise TypeError(f"Size should be int or sequence. Got {type(size)}")
        if isinstance(size, Sequence) and len(size) not in (1, 2):
            raise ValueError("If size is a sequence, it should have 1 or 2 values")
        self.size = size
        self.max_size = max_size
        self.interpolation = as_interpolation(interpolation)
        self.antialias = antialias

    def forward(self, img: Any) -> Any:
        return F.resize(img, self.size, self.interpolation, self.max_size, self.antialias)

    def __repr__(self) -> str:
        return (f"{type(self).__name__}(size={self.size}, interpolation={self.interpolation.value}, "
                f"max_size={self.max_size}, antialias={self.antialias})")


class CenterCrop(Transform):
    """The middle of the image, padded with zeros where it is smaller."""

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = _size(size)

    def forward(self, img: Any) -> Any:
        return F.center_crop(img, self.size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size})"


class Pad(Transform):
    """A border around the image (see functional)."""

    def __init__(self, padding: int | Sequence[int], fill: Any = 0, padding_mode: str = "constant") -> None:
        if not isinstance(fill, (numbers.Number, str, tuple, list)):
            raise TypeError("Got inappropriate fill arg")
        F._border(padding)
        if padding_mode not in ("constant", "edge", "reflect", "symmetric"):
            raise ValueError("Padding mode should be either constant, edge, reflect or symmetric")
        self.padding = padding
        self.fill = fill
        self.padding_mode = padding_mode

    def forward(self, img: Any) -> Any:
        return F.pad(img, self.padding, self.fill, self.padding_mode)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(padding={self.padding}, fill={self.fill}, padding_mode={self.padding_mode})"


class Grayscale(Transform):
    """Luma, in 1 or 3 equal channels."""

    def __init__(self, num_output_channels: int = 1) -> None:
        self.num_output_channels = num_output_channels

    def forward(self, img: Any) -> Any:
        return F.rgb_to_grayscale(img, self.num_output_channels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_output_channels={self.num_output_channels})"


class Lambda(Transform):
    """Any function. Prints a mark of its code, which torchvision's does not: two functions are not taken for one."""

    def __init__(self, lambd: Callable[[Any], Any]) -> None:
        if not callable(lambd):
            raise TypeError(f"Argument lambd should be callable, got {type(lambd).__name__!r}")
        self.lambd = lambd

    def forward(self, img: Any) -> Any:
        return self.lambd(img)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({_mark(self.lambd)})"


def _mark(function: Any) -> str:
    """A text that stays the same from run to run, and changes with a function's code, constants and captured values
    (as far as those print the same from run to run)."""
    code = getattr(function, "__code__", None)
    if code is None:
        return repr(function)
    cells = [repr(cell.cell_contents) for cell in function.__closure__ or ()]
    parts = [code.co_code.hex(), _constants(code), repr(code.co_names), repr(function.__defaults__),
             repr(function.__kwdefaults__), *cells]
    return f"{function.__module__}.{function.__qualname__} {zlib.crc32('|'.join(parts).encode()):08x}"


def _constants(code: Any) -> str:
    return repr([_constants(c) + c.co_code.hex() if hasattr(c, "co_code") else c for c in code.co_consts])


class _Chance(Transform):
    """One that is applied with probability ``p``."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def _lucky(self) -> bool:
        return bool(rand(1) < self.p)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(p={self.p})"


class RandomHorizontalFlip(_Chance):
    """Left and right exchanged, with probability ``p``."""

    def forward(self, img: Any) -> Any:
        return F.hflip(img) if self._lucky() else img


class RandomVerticalFlip(_Chance):
    """Top and bottom exchanged, with probability ``p``."""

    def forward(self, img: Any) -> Any:
        return F.vflip(img) if self._lucky() else img


class RandomCrop(Transform):
    """A rectangle of this size at a random place, after ``padding``; ``pad_if_needed`` pads images that are smaller,
    which otherwise raise ValueError."""

    def __init__(self, size: int | Sequence[int], padding: int | Sequence[int] | None = None,
                 pad_if_needed: bool = False, fill: Any = 0, padding_mode: str = "constant") -> None:
        self.size = _size(size)
        self.padding = padding
        self.pad_if_needed = pad_if_needed
        self.fill = fill
        self.padding_mode = padding_mode

    @staticmethod
    def get_params(img: Any, output_size: tuple[int, int]) -> tuple[int, int, int, int]:
        """(top, left, height, width) of a random crop."""
        _, height, width = F.get_dimensions(img)
        rows, columns = output_size
        if height < rows or width < columns:
            raise ValueError(f"Required crop size {(rows, columns)} is larger than input image size {(height, width)}")
        if (height, width) == (rows, columns):
            return 0, 0, rows, columns
        top = randint(0, height - rows + 1, (1,)).item()
        left = randint(0, width - columns + 1, (1,)).item()
        return top, left, rows, columns

    def forward(self, img: Any) -> Any:
        if self.padding is not None:
            img = F.pad(img, self.padding, self.fill, self.padding_mode)
        _, height, width = F.get_dimensions(img)
        rows, columns = self.size
        if self.pad_if_needed and width < columns:
            img = F.pad(img, [columns - width, 0], self.fill, self.padding_mode)
        if self.pad_if_needed and height < rows:
            img = F.pad(img, [0, rows - height], self.fill, self.padding_mode)
        return F.crop(img, *self.get_params(img, self.size))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size}, padding={self.padding})"


class RandomResizedCrop(Transform):
    """A random part of the image, of ``scale`` times its area and of a ratio width / height in ``ratio``, resized to
    ``size`` (Szegedy et al. 2014): the augmentation of ImageNet training. After ten places that do not fit, the middle.
    """

    def __init__(self, size: int | Sequence[int], scale: Sequence[float] = (0.08, 1.0),
                 ratio: Sequence[float] = (3.0 / 4.0, 4.0 / 3.0), interpolation: Any = InterpolationMode.BILINEAR,
                 antialias: bool | None = True) -> None:
        self.size = _size(size)
        if not isinstance(scale, Sequence):
            raise TypeError("Scale should be a sequence")
        if not isinstance(ratio, Sequence):
            raise TypeError("Ratio should be a sequence")
        if scale[0] > scale[1] or ratio[0] > ratio[1]:
            warnings.warn("Scale and ratio should be of kind (min, max)", stacklevel=2)
        self.scale = scale
        self.ratio = ratio
        self.interpolation = as_interpolation(interpolation)
        self.antialias = antialias

    @staticmethod
    def get_params(img: Any, scale: Sequence[float], ratio: Sequence[float]) -> tuple[int, int, int, int]:
        """(top, left, height, width) of a random crop."""
        _, height, width = F.get_dimensions(img)
        low, high = tensor([float(r) for r in ratio]).log().tolist()
        for _ in range(10):
            area = height * width * empty(1).uniform_(scale[0], scale[1]).item()
            aspect = empty(1).uniform_(low, high).exp().item()
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                top = randint(0, height - h + 1, (1,)).item()
                left = randint(0, width - w + 1, (1,)).item()
                return top, left, h, w
        present = float(width) / float(height)
        h, w = height, width
        if present < min(ratio):
            h = round(w / min(ratio))
        elif present > max(ratio):
            w = round(h * max(ratio))
        return (height - h) // 2, (width - w) // 2, h, w

    def forward(self, img: Any) -> Any:
        place = self.get_params(img, self.scale, self.ratio)
        return F.resized_crop(img, *place, self.size, self.interpolation, antialias=self.antialias)

    def __repr__(self) -> str:
        scale, ratio = (tuple(round(v, 4) for v in pair) for pair in (self.scale, self.ratio))
        return (f"{type(self).__name__}(size={self.size}, scale={scale}, ratio={ratio}, "
                f"interpolation={self.interpolation.value}, antialias={self.antialias})")


class ColorJitter(Transform):
    """Brightness, contrast, saturation and hue changed at random, in random order, of a Pillow image.

    A number x means factors from max(0, 1 - x) to 1 + x (hue: from -x to x, at most 0.5), a pair gives the range.
    Raises ValueError or TypeError for anything else."""

    def __init__(self, brightness: Any = 0, contrast: Any = 0, saturation: Any = 0, hue: Any = 0) -> None:
        self.brightness = _factors("brightness", brightness)
        self.contrast = _factors("contrast", contrast)
        self.saturation = _factors("saturation", saturation)
        self.hue = _factors("hue", hue, center=0, bound=(-0.5, 0.5), from_zero=False)

    @staticmethod
    def get_params(*ranges: Any) -> tuple[Any, ...]:
        """The order, and a factor for each range, None where there is none."""
        order = randperm(4)
        return (order, *(None if r is None else empty(1).uniform_(r[0], r[1]).item() for r in ranges))

    def forward(self, img: Any) -> Any:
        order, *factors = self.get_params(self.brightness, self.contrast, self.saturation, self.hue)
        steps = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
        for i in order.tolist():
            if factors[i] is not None:
                img = steps[i](img, factors[i])
        return img

    def __repr__(self) -> str:
        return (f"{type(self).__name__}(brightness={self.brightness}, contrast={self.contrast}, "
                f"saturation={self.saturation}, hue={self.hue})")


def _factors(name: str, value: Any, center: float = 1, bound: tuple[float, float] = (0, math.inf),
             from_zero: bool = True) -> tuple[float, float] | None:
    if isinstance(value, numbers.Number):
        width = float(value)  # type: ignore[arg-type]
        if width < 0:
            raise ValueError(f"If {name} is a single number, it must be non negative.")
        low, high = center - width, center + width
        low = max(low, 0.0) if from_zero else low
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        low, high = float(value[0]), float(value[1])
    else:
        raise TypeError(f"{name} should be a single number or a list/tuple with length 2.")
    if not bound[0] <= low <= high <= bound[1]:
        raise ValueError(f"{name} values should be between {bound}, but got {[low, high]}.")
    return None if low == high == center else (low, high)


def _size(size: Any) -> tuple[int, int]:
    """(height, width) from one number for both, or a pair."""
    if isinstance(size, numbers.Number):
        return int(size), int(size)  # type: ignore[call-overload]
    if isinstance(size, Sequence) and len(size) == 1:
        return size[0], size[0]
    if len(size) != 2:
        raise ValueError("Please provide only two dimensions (h, w) for size.")
    return size[0], size[1]
