"""Linear probing with the library: freeze a pre-trained ResNet, replace its last layer, and train that alone.

    python examples/linear_probing.py DATA [--weights resnet18.pth]

DATA holds train/CLASS/IMAGE and val/CLASS/IMAGE. The first half is the loop as a tutorial writes it, with every image
through the backbone in every epoch; the second computes the features once, which gives the same head in a fraction of
the time. ``tritium probe DATA`` does the second from the command line, and keeps the features on disk.
"""
import argparse
import os

import tritium as torch
import tritium.nn as nn
import tritium.optim as optim
from tritium.data import DataLoader
from tritium.data.datasets import ImageFolder
from tritium.models import ResNet18_Weights, resnet18
from tritium.probe import Recipe, extract_features, freeze, probe_features, replace_head


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--weights", default="IMAGENET1K_V1")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()

    transform = ResNet18_Weights.IMAGENET1K_V1.transforms()
    train = ImageFolder(os.path.join(options.data, "train"), transform)
    val = ImageFolder(os.path.join(options.data, "val"), transform)

    torch.manual_seed(0)
    model = resnet18(weights=options.weights)
    replace_head(model, len(train.classes))
    freeze(model, except_="fc")

    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(options.epochs):
        model.train()  # the frozen part stays in evaluation mode
        for images, labels in DataLoader(train, batch_size=64, shuffle=True):
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        right = 0
        with torch.no_grad():
            for images, labels in DataLoader(val, batch_size=64):
                right += (model(images).argmax(1) == labels).sum().item()
        print(f"epoch {epoch + 1}: {right / len(val):.2%}")

    features = extract_features(model, train), extract_features(model, val)
    _, scores = probe_features(*features, recipe=Recipe(epochs=options.epochs, batch_size=64))
    print(f"from features: {scores.top1:.2%}")


if __name__ == "__main__":
    main()
