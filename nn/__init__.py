"""`torch.nn`: modules, layers, functional forms, initialisation, utilities.
https://docs.pytorch.org/docs/stable/nn.html"""

from tritium.nn import attention, functional, init, modules, parameter, utils
from tritium.nn.modules import *  # noqa: F403
from tritium.nn.parameter import Buffer, Parameter
