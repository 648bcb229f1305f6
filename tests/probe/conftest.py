"""Small folders of images, and a home of their own for downloads and features."""
import numpy as np
import pytest
from PIL import Image

COLOURS = {"blue": (40, 60, 200), "green": (40, 190, 60), "red": (200, 50, 40)}


def write_class(folder, colour, count, seed, size=20):
    """Noisy images around a colour."""
    folder.mkdir(parents=True)
    random = np.random.RandomState(seed)
    for i in range(count):
        pixels = np.clip(np.array(colour) + random.normal(0, 50, (size, size, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03}.png")


@pytest.fixture
def folder(tmp_path):
    """train and val with three classes of 12 and 5 images."""
    root = tmp_path / "data"
    for part, count in (("train", 12), ("val", 5)):
        for k, (name, colour) in enumerate(COLOURS.items()):
            write_class(root / part / name, colour, count, seed=k + 10 * len(part))
    return root


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Nothing is read from or written to the user's folders."""
    monkeypatch.setenv("TRITIUM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "home"
