"""``tritium.utils.checkpoint``: recompute instead of keep. See ``tritium.autograd.checkpoint``."""
from tritium.autograd.checkpoint import CheckpointFunction, checkpoint, checkpoint_sequential

__all__ = ["CheckpointFunction", "checkpoint", "checkpoint_sequential"]
