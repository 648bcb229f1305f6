"""The transforms as functions; mirrors ``torchvision.transforms.functional``.

Images are Pillow images, resized by Pillow, or tensors [..., C, H, W] where that takes no more than indexing and
arithmetic (crop, flip, pad with a constant, normalize); the rest of the tensor forms raises NotImplementedError.
"""
from __future__ import annotations

import enum
import numbers
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from tritium.tensor.creation import full
from tritium.tensor.dtype import dtype as DType
from tritium.tensor.dtype import float32, float64, get_default_dtype, int32, int64
from tritium.tensor.from_data import as_tensor
from tritium.tensor.graph import wrap
from tritium.tensor.tensor import Tensor


class InterpolationMode(enum.Enum):
    """How pixels in between are found, by Pillow's names."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


_PIL_CODES = {0: InterpolationMode.NEAREST, 1: InterpolationMode.LANCZOS, 2: InterpolationMode.BILINEAR,
              3: InterpolationMode.BICUBIC, 4: InterpolationMode.BOX, 5: InterpolationMode.HAMMING}


def as_interpolation(value: Any) -> InterpolationMode:
    """An InterpolationMode, or Pillow's number for one. Raises TypeError for anything else."""
    if isinstance(value, InterpolationMode):
        return value
    if isinstance(value, int) and int(value) in _PIL_CODES:
        return _PIL_CODES[int(value)]
    raise TypeError("Argument interpolation should be a InterpolationMode or a corresponding Pillow integer constant")


def _is_pil(image: Any) -> bool:
    from PIL import Image

    return isinstance(image, Image.Image)


def _need(image: Any, what: str, tensors: bool = True) -> bool:
    """True for a Pillow image, False for a tensor image that ``what`` can take; raises otherwise."""
    if isinstance(image, Tensor):
        if not tensors:
            raise NotImplementedError(f"{what} of a tensor image is not available; give it a Pillow image")
        if image.ndim < 2:
            raise TypeError("Tensor is not a torch image.")
        return False
    if _is_pil(image):
        return True
    raise TypeError(f"img should be PIL Image or Tensor. Got {type(image)}")


def get_dimensions(img: Any) -> list[int]:
    """[channels, height, width]"""
    if _need(img, "get_dimensions"):
        return [len(img.getbands()), img.height, img.width]
    return [1 if img.ndim == 2 else img.shape[-3], img.shape[-2], img.shape[-1]]


def get_image_size(img: Any) -> list[int]:
    """[width, height]"""
    _, height, width = get_dimensions(img)
    return [width, height]


# --- between images and tensors ------------------------------------------------------------------

_SHORT = "I;16" if sys.byteorder == "little" else "I;16B"
_INTEGER_MODES = {"I": np.int32, _SHORT: np.int16, "F": np.float32}


def _planes(pic: Any, bits: Any) -> Any:
    """The pixels of a Pillow image as a fresh contiguous array [C, H, W]; those of mode 1 as the type ``bits``."""
    pixels = np.array(pic, dtype=bits if pic.mode == "1" else _INTEGER_MODES.get(pic.mode, np.uint8))
    return np.ascontiguousarray(pixels.reshape(pic.height, pic.width, len(pic.getbands())).transpose(2, 0, 1))


def to_tensor(pic: Any) -> Tensor:
    """A Pillow image, or an array [H, W, C] or [H, W], as a tensor [C, H, W]; bytes become numbers from 0 to 1 of the
    default dtype, other types keep their values. Raises TypeError or ValueError for anything else."""
    if isinstance(pic, np.ndarray):
        if pic.ndim not in (2, 3):
            raise ValueError(f"pic should be 2/3 dimensional. Got {pic.ndim} dimensions.")
        array = np.array((pic if pic.ndim == 3 else pic[:, :, None]).transpose(2, 0, 1), order="C")
    elif _is_pil(pic):
        array = _planes(pic, np.uint8)
        if pic.mode == "1":
            array *= 255
    else:
        raise TypeError(f"pic should be PIL Image or ndarray. Got {type(pic)}")
    if array.dtype == np.uint8:
        kind = get_default_dtype().np
        array = np.divide(array, kind.type(255), dtype=kind)
    return wrap(array)


def pil_to_tensor(pic: Any) -> Tensor:
    """A Pillow image as a tensor [C, H, W] of its own type (uint8 for most, bool for mode 1).

    Raises TypeError for anything else."""
    if not _is_pil(pic):
        raise TypeError(f"pic should be PIL Image. Got {type(pic)}")
    return wrap(_planes(pic, np.bool_))


def _largest(dtype: DType) -> int:
    return np.iinfo(dtype.np).max if dtype.np.kind in "iu" else 1


def convert_image_dtype(image: Tensor, dtype: DType = float32) -> Tensor:
    """The image in another type, its values scaled: the full range of an integer type is 0 to 1 in a floating one.

    Raises TypeError for what is no tensor, RuntimeError for a cast that could overflow (float32 to int32, ...)."""
    if not isinstance(image, Tensor):
        raise TypeError("Input img should be Tensor Image")
    source = image.dtype
    if source is dtype:
        return image
    if source.is_floating_point:
        if dtype.is_floating_point:
            return image.to(dtype)
        if (source is float32 and dtype in (int32, int64)) or (source is float64 and dtype is int64):
            raise RuntimeError(f"The cast from {source} to {dtype} cannot be performed safely.")
        # every integer gets an interval of (nearly) the same length
        return image.mul(_largest(dtype) + 1.0 - 1e-3).to(dtype)
    largest, wanted = _largest(source), _largest(dtype)
    if dtype.is_floating_point:
        return image.to(dtype) / largest
    if largest > wanted:
        return image.div((largest + 1) // (wanted + 1), rounding_mode="floor").to(dtype)
    return image.to(dtype) * ((wanted + 1) // (largest + 1))


def to_pil_image(pic: Any, mode: str | None = None) -> Any:
    """A tensor [C, H, W] or [H, W] (floats from 0 to 1), or an array [H, W, C], as a Pillow image.

    Raises TypeError or ValueError for types, shapes and modes that do not go together."""
    from PIL import Image

    if isinstance(pic, Tensor):
        array = pic.detach().cpu().numpy()
        array = array.transpose(1, 2, 0) if array.ndim == 3 else array
    elif isinstance(pic, np.ndarray):
        array = pic
    else:
        raise TypeError(f"pic should be Tensor or ndarray. Got {type(pic)}.")
    if array.ndim not in (2, 3):
        raise ValueError(f"pic should be 2/3 dimensional. Got {array.ndim} dimensions.")
    array = array if array.ndim == 3 else array[:, :, None]
    channels = array.shape[2]
    if channels > 4:
        raise ValueError(f"pic should not have > 4 channels. Got {channels} channels.")
    if array.dtype.kind == "f" and mode != "F":
        array = (array * 255).astype(np.uint8)
    if channels == 1:
        array = array[:, :, 0]
        found = {"uint8": "L", "int16": _SHORT, "int32": "I", "float32": "F"}.get(array.dtype.name)
        allowed: tuple[str, ...] = (found,) if found else ()
    else:
        allowed = {2: ("LA",), 3: ("RGB", "YCbCr", "HSV"), 4: ("RGBA", "CMYK", "RGBX")}[channels]
        found = allowed[0] if array.dtype == np.uint8 else None
    if found is None:
        raise TypeError(f"Input type {array.dtype} is not supported")
    if mode is not None and mode not in allowed:
        raise ValueError(f"Incorrect mode ({mode}) for {channels} channels of {array.dtype}: it can be "
                         f"{', '.join(allowed)}")
    return Image.frombytes(mode or found, (array.shape[1], array.shape[0]), array.tobytes())


def normalize(tensor: Tensor, mean: Sequence[float], std: Sequence[float], inplace: bool = False) -> Tensor:
    """(tensor - mean) / std, channel by channel, of a float tensor [..., C, H, W].

    Raises TypeError for other types, ValueError for fewer dimensions or a zero in ``std``."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"img should be Tensor Image. Got {type(tensor)}")
    if not tensor.is_floating_point():
        raise TypeError(f"Input tensor should be a float tensor. Got {tensor.dtype}.")
    if tensor.ndim < 3:
        raise ValueError("Expected tensor to be a tensor image of size (..., C, H, W). Got tensor.size() = "
                         f"{tensor.size()}")
    means, stds = (as_tensor(v, dtype=tensor.dtype, device=tensor.device) for v in (mean, std))
    if bool((stds == 0).any()):
        raise ValueError(f"std evaluated to zero after conversion to {tensor.dtype}, leading to division by zero.")
    if means.ndim == 1:
        means = means.view(-1, 1, 1)
    if stds.ndim == 1:
        stds = stds.view(-1, 1, 1)
    centred = tensor.sub_(means) if inplace else tensor.sub(means)
    return centred.div_(stds)


# --- geometry ------------------------------------------------------------------------------------

def resized_shape(height: int, width: int, size: Sequence[int], max_size: int | None = None) -> tuple[int, int]:
    """(height, width) after ``resize``: one number is the length of the shorter side, and the longer one follows."""
    if len(size) == 2:
        return int(size[0]), int(size[1])
    short, long = sorted((width, height))
    new_short, new_long = size[0], int(size[0] * long / short)
    if max_size is not None:
        if max_size <= size[0]:
            raise ValueError(f"max_size = {max_size} must be strictly greater than the requested size for the smaller "
                             f"edge size = {size[0]}")
        if new_long > max_size:
            new_short, new_long = int(max_size * new_short / new_long), max_size
    return (new_long, new_short) if width <= height else (new_short, new_long)


def resize(img: Any, size: int | Sequence[int], interpolation: Any = InterpolationMode.BILINEAR,
           max_size: int | None = None, antialias: bool | None = True) -> Any:
    """Resize by Pillow, which always uses antialiasing. ``size``: (height, width), or the length of the shorter side;
    ``max_size`` bounds the longer one.

    Raises ValueError for sizes that do not go together, NotImplementedError for tensors."""
    mode = as_interpolation(interpolation)
    _need(img, "resize", tensors=False)
    from PIL import Image

    if antialias is False:
        warnings.warn("Anti-alias option is always applied for PIL Image input. Argument antialias is ignored.",
                      stacklevel=2)
    sizes = [size] if isinstance(size, int) else list(size)
    if len(sizes) not in (1, 2):
        raise ValueError(f"Size must be an int or a 1 or 2 element tuple/list, not a {len(sizes)} element tuple/list")
    if max_size is not None and len(sizes) != 1:
        raise ValueError("max_size should only be passed if size specifies the length of the smaller edge, i.e. size "
                         "should be an int or a sequence of length 1 in torchscript mode.")
    height, width = resized_shape(img.height, img.width, sizes, max_size)
    if (height, width) == (img.height, img.width):
        return img
    name = "NEAREST" if mode is InterpolationMode.NEAREST_EXACT else mode.name
    return img.resize((width, height), Image.Resampling[name])


def crop(img: Any, top: int, left: int, height: int, width: int) -> Any:
    """A rectangle of the image; what lies outside of it is zero."""
    if _need(img, "crop"):
        return img.crop((left, top, left + width, top + height))
    rows, columns = img.shape[-2:]
    right, bottom = left + width, top + height
    inside = img[..., max(top, 0):max(bottom, 0), max(left, 0):max(right, 0)]
    outside = [max(min(right, 0) - left, 0), max(min(bottom, 0) - top, 0),
               max(right - max(columns, left), 0), max(bottom - max(rows, top), 0)]
    return pad(inside, outside) if any(outside) else inside


def center_crop(img: Any, output_size: int | Sequence[int]) -> Any:
    """The middle of the image, padded with zeros where it is smaller."""
    crop_height, crop_width = _pair(output_size)
    _, height, width = get_dimensions(img)
    if crop_width > width or crop_height > height:
        across, down = max(crop_width - width, 0), max(crop_height - height, 0)
        img = pad(img, [across // 2, down // 2, (across + 1) // 2, (down + 1) // 2])
        _, height, width = get_dimensions(img)
        if (crop_height, crop_width) == (height, width):
            return img
    top, left = round((height - crop_height) / 2.0), round((width - crop_width) / 2.0)
    return crop(img, top, left, crop_height, crop_width)


def resized_crop(img: Any, top: int, left: int, height: int, width: int, size: Sequence[int],
                 interpolation: Any = InterpolationMode.BILINEAR, antialias: bool | None = True) -> Any:
    """``crop``, then ``resize``."""
    return resize(crop(img, top, left, height, width), size, interpolation, antialias=antialias)


def hflip(img: Any) -> Any:
    """Left and right exchanged."""
    if _need(img, "hflip"):
        from PIL import Image

        return img.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return img.flip(-1)


def vflip(img: Any) -> Any:
    """Top and bottom exchanged."""
    if _need(img, "vflip"):
        from PIL import Image

        return img.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return img.flip(-2)


def pad(img: Any, padding: int | Sequence[int], fill: Any = 0, padding_mode: str = "constant") -> Any:
    """A border around the image: one number, (left and right, top and bottom), or (left, top, right, bottom).

    ``fill`` is a number or one per channel; ``padding_mode`` is constant, edge, reflect or symmetric (tensors:
    constant). Raises ValueError or TypeError for anything else."""
    left, top, right, bottom = _border(padding)
    if padding_mode not in ("constant", "edge", "reflect", "symmetric"):
        raise ValueError("Padding mode should be either constant, edge, reflect or symmetric")
    if not _need(img, "pad"):
        if padding_mode != "constant":
            raise NotImplementedError(f"pad: padding_mode {padding_mode!r} of a tensor image is not available")
        *lead, height, width = img.shape
        out = full((*lead, height + top + bottom, width + left + right), fill, dtype=img.dtype, device=img.device)
        out[..., top:top + height, left:left + width] = img
        return out
    if padding_mode == "constant":
        return _expand(img, (left, top, right, bottom), fill)
    from PIL import Image

    array = np.asarray(img)
    border = [(top, bottom), (left, right)] + [(0, 0)] * (array.ndim - 2)
    padded = Image.fromarray(np.pad(array, border, padding_mode))  # type: ignore[call-overload]
    if img.mode == "P":
        padded.putpalette(img.getpalette())
    return padded


def _expand(img: Any, border: tuple[int, int, int, int], fill: Any) -> Any:
    from PIL import ImageOps

    bands = len(img.getbands())
    if isinstance(fill, (list, tuple)):
        if len(fill) not in (1, bands):
            raise ValueError(f"The number of elements in 'fill' does not match the number of channels of the image "
                             f"({len(fill)} != {bands})")
        fill = tuple(fill) * (bands if len(fill) == 1 else 1)
        fill = fill[0] if bands == 1 else fill
    elif isinstance(fill, numbers.Number) and bands > 1:
        fill = (fill,) * bands
    if img.mode == "P":
        out = ImageOps.expand(img, border=border, fill=fill)
        out.putpalette(img.getpalette())
        return out
    return ImageOps.expand(img, border=border, fill=fill)


def _border(padding: Any) -> tuple[int, int, int, int]:
    if isinstance(padding, int):
        return padding, padding, padding, padding
    if not isinstance(padding, (tuple, list)):
        raise TypeError("Got inappropriate padding arg")
    if len(padding) not in (1, 2, 4):
        raise ValueError(f"Padding must be an int or a 1, 2, or 4 element tuple, not a {len(padding)} element tuple")
    left, top, right, bottom = tuple(padding) * (4 // len(padding))
    return left, top, right, bottom


def _pair(size: Any) -> tuple[int, int]:
    if isinstance(size, numbers.Number):
        return int(size), int(size)  # type: ignore[call-overload]
    return (size[0], size[0]) if len(size) == 1 else (size[0], size[1])


# --- colour --------------------------------------------------------------------------------------

def rgb_to_grayscale(img: Any, num_output_channels: int = 1) -> Any:
    """Luma (ITU-R 601), in 1 or 3 equal channels. Raises ValueError for another number."""
    if num_output_channels not in (1, 3):
        raise ValueError("num_output_channels should be either 1 or 3")
    if _need(img, "rgb_to_grayscale"):
        gray = img.convert("L")
        return gray if num_output_channels == 1 else gray.convert("RGB")
    channels = get_dimensions(img)[0]
    if channels not in (1, 3):
        raise TypeError(f"Input image tensor permitted channel values are [1, 3], but found {channels}")
    if channels == 3:
        r, g, b = img.unbind(dim=-3)
        img = (0.2989 * r + 0.587 * g + 0.114 * b).to(img.dtype).unsqueeze(dim=-3)
    return img.expand((*img.shape[:-3], 3, *img.shape[-2:])) if num_output_channels == 3 else img


to_grayscale = rgb_to_grayscale


def _enhance(img: Any, name: str, factor: float) -> Any:
    _need(img, f"adjust_{name}", tensors=False)
    from PIL import ImageEnhance

    kind = {"brightness": ImageEnhance.Brightness, "contrast": ImageEnhance.Contrast, "saturation": ImageEnhance.Color}
    return kind[name](img).enhance(factor)


def adjust_brightness(img: Any, brightness_factor: float) -> Any:
    """0 is black, 1 the image, 2 twice as bright."""
    return _enhance(img, "brightness", brightness_factor)


def adjust_contrast(img: Any, contrast_factor: float) -> Any:
    """0 is a solid gray, 1 the image."""
    return _enhance(img, "contrast", contrast_factor)


def adjust_saturation(img: Any, saturation_factor: float) -> Any:
    """0 is without colour, 1 the image."""
    return _enhance(img, "saturation", saturation_factor)


def adjust_hue(img: Any, hue_factor: float) -> Any:
    """Turn the colours round by a part of the circle, -0.5 to 0.5. Raises ValueError for another part."""
    if not -0.5 <= hue_factor <= 0.5:
        raise ValueError(f"hue_factor ({hue_factor}) is not in [-0.5, 0.5].")
    _need(img, "adjust_hue", tensors=False)
    if img.mode in ("L", "1", "I", "F"):
        return img
    from PIL import Image

    h, s, v = img.convert("HSV").split()
    turned = np.array(h, dtype=np.uint8) + np.uint8(int(hue_factor * 255) % 256)  # wraps around, as hues do
    return Image.merge("HSV", (Image.fromarray(turned), s, v)).convert(img.mode)
