"""`torch.nn.parameter`: the tensors a module owns. The classes live in `tensor/`, next to `Tensor`."""

from tritium.tensor.parameter import Buffer, Parameter

__all__ = ["Buffer", "Parameter"]
