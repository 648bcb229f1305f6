"""Transforms: pixels by Pillow itself, printing and seeded draws as torchvision 0.29 has them."""
import math
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

import tritium
from tritium.data import transforms as T
from tritium.data.transforms import functional as F

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)
IMAGE = Image.fromarray(PIXELS)
TENSOR = tritium.from_numpy(PIXELS.transpose(2, 0, 1).copy())


def pixels(image):
    return np.asarray(image)


def same(image, expected):
    np.testing.assert_array_equal(pixels(image), pixels(expected))


def test_resize():
    same(T.Resize((10, 20))(IMAGE), IMAGE.resize((20, 10), Image.Resampling.BILINEAR))
    same(T.Resize(20)(IMAGE), IMAGE.resize((30, 20), Image.Resampling.BILINEAR))
    same(T.Resize([13])(IMAGE.transpose(Image.Transpose.ROTATE_90)),
         IMAGE.transpose(Image.Transpose.ROTATE_90).resize((13, 19), Image.Resampling.BILINEAR))
    for mode in T.InterpolationMode:
        name = "NEAREST" if mode.name == "NEAREST_EXACT" else mode.name
        same(T.Resize(20, interpolation=mode)(IMAGE), IMAGE.resize((30, 20), Image.Resampling[name]))
    same(T.Resize(20, interpolation=Image.Resampling.BICUBIC)(IMAGE), IMAGE.resize((30, 20), Image.Resampling.BICUBIC))
    assert T.Resize(30, max_size=36)(IMAGE).size == (36, 24)
    assert T.Resize(40)(IMAGE) is IMAGE


@pytest.mark.parametrize(("make", "error", "text"), [
    (lambda: T.Resize("x2x"), ValueError, "it should have 1 or 2 values"),
    (lambda: T.Resize(2.5), TypeError, "Size should be int or sequence. Got <class 'float'>"),
    (lambda: T.Resize(20, max_size=20)(IMAGE), ValueError, "max_size = 20 must be strictly greater than the requested"),
    (lambda: T.Resize((20, 30), max_size=40)(IMAGE), ValueError, "max_size should only be passed if size specifies"),
    (lambda: T.Resize(20, interpolation="x"), TypeError, "Argument interpolation should be a InterpolationMode"),
    (lambda: T.Resize(20)(TENSOR), NotImplementedError, "resize of a tensor image"),
    (lambda: T.Resize(20)(PIXELS), TypeError, "img should be PIL Image or Tensor. Got <class 'numpy.ndarray'>"),
    (lambda: T.CenterCrop((1, 2, 3)), ValueError, "Please provide only two dimensions"),
    (lambda: T.RandomCrop(50)(IMAGE), ValueError, r"Required crop size \(50, 50\) is larger than input image size"),
    (lambda: T.RandomResizedCrop(5, scale=0.5), TypeError, "Scale should be a sequence"),
    (lambda: T.Pad((1, 2, 3)), ValueError, "Padding must be an int or a 1, 2, or 4 element tuple, not a 3"),
    (lambda: T.Pad(1, padding_mode="wrap"), ValueError, "Padding mode should be either constant, edge, reflect or"),
    (lambda: T.Grayscale(2)(IMAGE), ValueError, "num_output_channels should be either 1 or 3"),
    (lambda: T.ToTensor()([1]), TypeError, "pic should be PIL Image or ndarray. Got <class 'list'>"),
    (lambda: T.ToTensor()(np.ones(3)), ValueError, "pic should be 2/3 dimensional. Got 1 dimensions."),
    (lambda: T.Normalize([0.5], [0.5])(TENSOR), TypeError, "Input tensor should be a float tensor. Got"),
    (lambda: T.Normalize([0.5], [0.5])(tritium.ones(2, 2)), ValueError, "Expected tensor to be a tensor image of size"),
    (lambda: T.Normalize([0.5], [0.0])(tritium.ones(1, 2, 2)), ValueError, "std evaluated to zero after conversion to"),
    (lambda: T.Normalize([0.5], [0.5])(IMAGE), TypeError, "img should be Tensor Image. Got"),
    (lambda: T.Lambda(3), TypeError, "Argument lambd should be callable, got 'int'"),
    (lambda: T.ColorJitter(-1), ValueError, "If brightness is a single number, it must be non negative."),
    (lambda: T.ColorJitter(hue=0.7), ValueError, r"hue values should be between \(-0.5, 0.5\)"),
    (lambda: T.ColorJitter(contrast="ab"), TypeError, "contrast should be a single number or a list/tuple with"),
    (lambda: T.ConvertImageDtype(tritium.int32)(tritium.ones(1, 2, 2)), RuntimeError, "cannot be performed safely"),
])
def test_refusals(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_center_crop():
    for image, box in ((IMAGE, lambda i: pixels(i)), (TENSOR, lambda t: t.permute(1, 2, 0).numpy())):
        np.testing.assert_array_equal(box(T.CenterCrop((20, 31))(image)), PIXELS[10:30, 14:45])
        np.testing.assert_array_equal(box(T.CenterCrop(40)(image)), PIXELS[:, 10:50])
        padded = box(T.CenterCrop((45, 70))(image))
        assert padded.shape == (45, 70, 3) and not padded[:2].any() and not padded[-3:].any()
        np.testing.assert_array_equal(padded[2:42, 5:65], PIXELS)


def test_crop_beyond_the_edges_gives_zeros():
    for top, left, height, width in ((-3, -2, 10, 12), (35, 55, 10, 12), (-50, 0, 10, 10), (2, 90, 5, 5), (5, 5, 1, 1)):
        expected = pixels(IMAGE.crop((left, top, left + width, top + height)))
        np.testing.assert_array_equal(pixels(F.crop(IMAGE, top, left, height, width)), expected)
        np.testing.assert_array_equal(F.crop(TENSOR, top, left, height, width).permute(1, 2, 0).numpy(), expected)


def test_flips():
    same(F.hflip(IMAGE), PIXELS[:, ::-1])
    same(F.vflip(IMAGE), PIXELS[::-1])
    np.testing.assert_array_equal(F.hflip(TENSOR).permute(1, 2, 0).numpy(), PIXELS[:, ::-1])
    np.testing.assert_array_equal(F.vflip(TENSOR).permute(1, 2, 0).numpy(), PIXELS[::-1])
    assert T.RandomHorizontalFlip(0.0)(IMAGE) is IMAGE
    same(T.RandomVerticalFlip(1.0)(IMAGE), PIXELS[::-1])


@pytest.mark.parametrize("padding", [2, [3], [1, 2], (1, 2, 3, 4)])
def test_pad(padding):
    left, top, right, bottom = F._border(padding)
    border = ((top, bottom), (left, right), (0, 0))
    same(T.Pad(padding, fill=7)(IMAGE), np.pad(PIXELS, border, constant_values=7))
    np.testing.assert_array_equal(T.Pad(padding, fill=7)(TENSOR).permute(1, 2, 0).numpy(),
                                  np.pad(PIXELS, border, constant_values=7))
    for mode in ("edge", "reflect", "symmetric"):
        same(T.Pad(padding, padding_mode=mode)(IMAGE), np.pad(PIXELS, border, mode=mode))
    same(T.Pad(padding, fill=(1, 2, 3))(IMAGE), ImageOps.expand(IMAGE, (left, top, right, bottom), (1, 2, 3)))
    gray = IMAGE.convert("L")
    same(T.Pad(padding, 9)(gray), np.pad(pixels(gray), border[:2], constant_values=9))


def test_to_tensor():
    found = T.ToTensor()(IMAGE)
    assert found.dtype is tritium.float32 and found.shape == (3, 40, 60) and found.is_contiguous()
    np.testing.assert_array_equal(found.numpy(), PIXELS.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    assert tritium.equal(T.ToTensor()(PIXELS), found)
    assert T.ToTensor()(IMAGE.convert("L")).shape == (1, 40, 60)
    assert T.ToTensor()(IMAGE.convert("RGBA")).shape == (4, 40, 60)
    assert set(np.unique(T.ToTensor()(IMAGE.convert("1")).numpy())) == {0.0, 1.0}
    assert T.ToTensor()(IMAGE.convert("I")).dtype is tritium.int32
    assert T.ToTensor()(IMAGE.convert("F")).dtype is tritium.float32
    doubles = T.ToTensor()(np.ones((2, 3)))
    assert doubles.dtype is tritium.float64 and doubles.shape == (1, 2, 3)


def test_between_images_and_tensors():
    assert tritium.equal(T.PILToTensor()(IMAGE), TENSOR)
    same(T.ToPILImage()(TENSOR), IMAGE)
    same(T.ToPILImage()(T.ToTensor()(IMAGE)), IMAGE)
    same(T.ToPILImage()(PIXELS), IMAGE)
    assert T.ToPILImage()(TENSOR[:1]).mode == "L" and T.ToPILImage("HSV")(TENSOR).mode == "HSV"
    assert T.ToPILImage()(np.ones((2, 3, 1), np.int32)).mode == "I"
    with pytest.raises(ValueError, match="Incorrect mode"):
        T.ToPILImage("L")(TENSOR)


def test_convert_image_dtype():
    to = F.convert_image_dtype
    np.testing.assert_array_equal(to(TENSOR).numpy(), TENSOR.numpy().astype(np.float32) / np.float32(255))
    values = tritium.tensor([0.0, 0.25, 0.5, 1.0])
    assert to(values, tritium.uint8).tolist() == [0, 63, 127, 255]
    assert to(values, tritium.float64).dtype is tritium.float64
    assert to(tritium.tensor([0, 255], dtype=tritium.uint8), tritium.int16).tolist() == [0, 255 * 128]
    assert to(tritium.tensor([0, 32767], dtype=tritium.int16), tritium.uint8).tolist() == [0, 255]
    assert to(values, tritium.float32) is values


def test_normalize():
    x = T.ToTensor()(IMAGE)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    expected = (x.numpy() - np.float32(mean)[:, None, None]) / np.float32(std)[:, None, None]
    found = T.Normalize(mean, std)(x)
    np.testing.assert_array_equal(found.numpy(), expected)
    assert found is not x and T.Normalize(mean, std, inplace=True)(x) is x
    np.testing.assert_array_equal(x.numpy(), expected)
    assert T.Normalize(0.5, 2.0)(tritium.ones(2, 1, 3, 3)).mean().item() == 0.25


def test_grayscale():
    same(T.Grayscale()(IMAGE), IMAGE.convert("L"))
    three = pixels(T.Grayscale(3)(IMAGE))
    assert three.shape == (40, 60, 3) and (three == pixels(IMAGE.convert("L"))[..., None]).all()
    gray = T.Grayscale()(T.ToTensor()(IMAGE))
    assert gray.shape == (1, 40, 60)
    np.testing.assert_allclose(gray.numpy()[0] * 255, pixels(IMAGE.convert("L")), atol=1.1)
    assert T.Grayscale(3)(gray).shape == (3, 40, 60)


def test_colour():
    same(F.adjust_brightness(IMAGE, 1.0), IMAGE)
    assert not pixels(F.adjust_brightness(IMAGE, 0.0)).any()
    assert (pixels(F.adjust_saturation(IMAGE, 0.0)).ptp(axis=-1) if hasattr(np.ndarray, "ptp") else
            np.ptp(pixels(F.adjust_saturation(IMAGE, 0.0)), axis=-1)).max() == 0
    red = Image.new("RGB", (1, 1), (255, 0, 0))
    assert F.adjust_hue(red, 1 / 3).getpixel((0, 0))[1] == 255
    assert F.adjust_hue(red, -1 / 3).getpixel((0, 0))[2] == 255
    jitter = T.ColorJitter(0.4, 0.4, 0.4, 0.1)
    assert jitter(IMAGE).size == IMAGE.size
    same(T.ColorJitter()(IMAGE), IMAGE)


def test_seeded_draws_are_torchvision_s():
    tritium.manual_seed(0)
    crops = [T.RandomResizedCrop.get_params(IMAGE, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(4)]
    assert crops == [(5, 14, 33, 39), (3, 13, 28, 31), (5, 16, 33, 36), (22, 9, 17, 14)]
    tritium.manual_seed(0)
    assert [T.RandomCrop.get_params(IMAGE, (20, 30))[:2] for _ in range(3)] == [(11, 30), (14, 14), (1, 23)]
    tritium.manual_seed(0)
    flips = [T.RandomHorizontalFlip()(IMAGE) is not IMAGE for _ in range(8)]
    assert flips == [True, False, True, True, True, False, True, False]
    tritium.manual_seed(3)
    order, brightness, contrast, saturation, hue = T.ColorJitter.get_params((0.6, 1.4), (0.6, 1.4), None, (-0.1, 0.1))
    assert order.tolist() == [2, 3, 1, 0] and saturation is None
    np.testing.assert_array_equal([brightness, contrast, hue], [0.6215639114379883, 0.977291464805603,
                                                                -0.08797674626111984])


def test_random_resized_crop():
    tritium.manual_seed(1)
    out = T.RandomResizedCrop(16)(IMAGE)
    assert out.size == (16, 16)
    place = T.RandomResizedCrop.get_params(IMAGE, [0.9, 1.0], [3.0, 4.0])  # cannot fit: the middle, as wide as may be
    assert place == (10, 0, 20, 60)
    tritium.manual_seed(0)
    top, left, height, width = 5, 14, 33, 39
    same(T.RandomResizedCrop((8, 9))(IMAGE),
         IMAGE.crop((left, top, left + width, top + height)).resize((9, 8), Image.Resampling.BILINEAR))


def test_random_crop():
    tritium.manual_seed(0)
    assert T.RandomCrop((10, 20), padding=4)(IMAGE).size == (20, 10)
    assert T.RandomCrop(50, pad_if_needed=True)(IMAGE).size == (50, 50)
    assert T.RandomCrop(8)(TENSOR).shape == (3, 8, 8)
    same(T.RandomCrop((40, 60))(IMAGE), IMAGE)


def test_printing():
    shown = {
        T.Resize(256): "Resize(size=256, interpolation=bilinear, max_size=None, antialias=True)",
        T.CenterCrop(224): "CenterCrop(size=(224, 224))",
        T.RandomResizedCrop(224): "RandomResizedCrop(size=(224, 224), scale=(0.08, 1.0), ratio=(0.75, 1.3333), "
                                  "interpolation=bilinear, antialias=True)",
        T.RandomHorizontalFlip(): "RandomHorizontalFlip(p=0.5)",
        T.RandomVerticalFlip(0.1): "RandomVerticalFlip(p=0.1)",
        T.RandomCrop(32, padding=4): "RandomCrop(size=(32, 32), padding=4)",
        T.Pad(2): "Pad(padding=2, fill=0, padding_mode=constant)",
        T.Grayscale(3): "Grayscale(num_output_channels=3)",
        T.ToTensor(): "ToTensor()",
        T.PILToTensor(): "PILToTensor()",
        T.ToPILImage(): "ToPILImage()",
        T.ToPILImage("L"): "ToPILImage(mode=L)",
        T.ColorJitter(0.4, hue=0.1): "ColorJitter(brightness=(0.6, 1.4), contrast=None, saturation=None, "
                                     "hue=(-0.1, 0.1))",
        T.Normalize([0.5], [0.25]): "Normalize(mean=[0.5], std=[0.25])",
        T.Compose([T.ToTensor(), T.Normalize([0.5], [0.25])]):
            "Compose(\n    ToTensor()\n    Normalize(mean=[0.5], std=[0.25])\n)",
    }
    for transform, text in shown.items():
        assert repr(transform) == text


def test_functions_are_told_apart_by_what_they_print():
    def by(factor):
        return T.Lambda(lambda image: image * factor)

    assert repr(by(2)) == repr(by(2)) != repr(by(3))
    assert repr(T.Lambda(lambda x: x + 1)) != repr(T.Lambda(lambda x: x + 2))
    assert repr(T.Lambda(lambda x: x.sin())) != repr(T.Lambda(lambda x: x.cos()))
    assert repr(T.Lambda(math.sqrt)) == "Lambda(<built-in function sqrt>)"
    assert "float32" in repr(T.ConvertImageDtype(tritium.float32))


def test_pipeline_and_cost_of_the_import():
    out = T.Compose([T.Resize(32), T.CenterCrop(28), T.ToTensor(), T.Normalize([0.5] * 3, [0.5] * 3)])(IMAGE)
    assert out.shape == (3, 28, 28)
    code = "import sys, tritium.data.transforms, tritium.data.datasets; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0, "Pillow is loaded when it is first needed"
