"""``tritium.datasets``: another name of ``tritium.data.datasets``, where torchvision's users look for it."""
import sys

from tritium.data import datasets

sys.modules[__name__] = datasets
