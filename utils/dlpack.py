"""``tritium.utils.dlpack``: tensors to and from other libraries. https://docs.pytorch.org/docs/stable/dlpack.html"""
from tritium.tensor.from_data import from_dlpack
from tritium.tensor.interop import to_dlpack

__all__ = ["from_dlpack", "to_dlpack"]
