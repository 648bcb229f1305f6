"""Make models/digits_resnet.safetensors: a small ResNet that has seen the digits 0 to 4 only.

    python scripts/pretrain_digits.py

It learns from the training part of the digits (the first 1,437 images, of which 721 are a 0, 1, 2, 3 or 4), turned by
multiples of 90 degrees and mirrored, and has to tell which digit it sees and how it was turned: 40 classes. Five
classes alone would leave features that know little beyond them. Small shifts, turns and scalings vary the images. The
result depends on the seed, and on the last bits of the kernels: another version makes other weights, about as good.
"""
from __future__ import annotations

import argparse
import json
import math
import time
from typing import Any

import numpy as np

import tritium
from tritium.data.datasets import Digits
from tritium.models.digits import PATH, DigitsResNet, digits_transform
from tritium.nn.functional import cross_entropy
from tritium.optim import SGD
from tritium.optim.lr_scheduler import CosineAnnealingLR
from tritium.probe.data import DIGITS_TRAINING
from tritium.tensor.serialization import save_safetensors

EPOCHS, BATCH, RATE, DECAY = 60, 64, 0.05, 5e-4
TURN, SCALE, SHIFT, SHEAR = math.radians(15), 0.15, 0.6, 0.2  # up to; SHIFT in pixels


def varied(image: Any, draw: np.ndarray, turns: int, mirrored: int) -> Any:
    """A Pillow image moved by ``draw`` (five numbers from -1 to 1), then mirrored and turned."""
    from PIL import Image

    angle, scale = draw[0] * TURN, 1 + draw[1] * SCALE
    a, b = math.cos(angle) * scale, -math.sin(angle) * scale + draw[4] * SHEAR
    d, e = math.sin(angle) * scale, math.cos(angle) * scale
    x, y = image.width / 2, image.height / 2  # the fixed point
    place = (a, b, x - a * x - b * y + draw[2] * SHIFT, d, e, y - d * x - e * y + draw[3] * SHIFT)
    image = image.transform(image.size, Image.Transform.AFFINE, place, Image.Resampling.BILINEAR)
    if mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.rotate(90 * turns)


def pretrain(epochs: int = EPOCHS, seed: int = 0, log: Any = print) -> DigitsResNet:
    """The trained model, in evaluation mode."""
    digits, transform = Digits(), digits_transform()
    chosen = [i for i in range(DIGITS_TRAINING) if int(digits.targets[i]) < 5]
    images = [digits[i][0] for i in chosen]
    labels = np.array([int(digits.targets[i]) for i in chosen])
    tritium.manual_seed(seed)
    model = DigitsResNet().train()
    optimizer = SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=DECAY, nesterov=True)
    schedule = CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        total = right = 0.0
        for positions in tritium.randperm(len(images)).split(BATCH):
            count = len(positions)
            draws = (tritium.rand(count, 5) * 2 - 1).numpy()
            turns, mirrored = tritium.randint(0, 4, (count,)).numpy(), tritium.randint(0, 2, (count,)).numpy()
            chosen_now = positions.tolist()
            batch = tritium.stack([transform(varied(images[i], draw, int(t), int(m)))
                                   for i, draw, t, m in zip(chosen_now, draws, turns, mirrored, strict=True)])
            target = tritium.tensor(labels[chosen_now] * 8 + turns * 2 + mirrored)
            scores = model(batch)
            loss = cross_entropy(scores, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * count
            right += (scores.argmax(1) == target).sum().item()
        schedule.step()
        log(f"epoch {epoch + 1:>2}/{epochs}   loss {total / len(images):.4f}   accuracy {right / len(images):.2%}")
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=str(PATH), help="the file to write (default: the one in the package)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    model = pretrain(seed=options.seed)
    about = {"arch": "digits_resnet",
             "trained_on": "digits 0-4 of the first 1,437 images, turned and mirrored: 40 classes",
             "epochs": EPOCHS, "seed": options.seed, "license": "CC BY 4.0 data (data/assets/DIGITS_LICENSE.md)"}
    save_safetensors(model.state_dict(), options.out, {"tritium": json.dumps(about)})
    print(f"wrote {options.out} in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
