"""``tritium.transforms``: another name of ``tritium.data.transforms``, where torchvision's users look for it."""
import sys

from tritium.data import transforms

sys.modules[__name__] = transforms
