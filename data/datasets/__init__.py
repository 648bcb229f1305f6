"""Image data sets on disk, and ``Digits``, which comes with the package; mirrors ``torchvision.datasets``."""
from tritium.data.datasets.cifar import CIFAR10, CIFAR100
from tritium.data.datasets.digits import Digits
from tritium.data.datasets.folder import (
    IMG_EXTENSIONS,
    DatasetFolder,
    ImageFolder,
    UnreadableImage,
    default_loader,
    find_classes,
    has_file_allowed_extension,
    is_image_file,
    make_dataset,
    pil_loader,
)
from tritium.data.datasets.mnist import MNIST, FashionMNIST, read_idx
from tritium.data.datasets.vision import VisionDataset

__all__ = ["CIFAR10", "CIFAR100", "DatasetFolder", "Digits", "FashionMNIST", "IMG_EXTENSIONS", "ImageFolder", "MNIST",
           "UnreadableImage", "VisionDataset", "default_loader", "find_classes", "has_file_allowed_extension",
           "is_image_file", "make_dataset", "pil_loader", "read_idx"]
