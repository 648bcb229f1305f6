"""``tritium.utils.model_zoo``: the older name of ``tritium.hub.load_state_dict_from_url``.

https://docs.pytorch.org/docs/stable/model_zoo.html
"""
from tritium.hub import load_state_dict_from_url as load_url

__all__ = ["load_url"]
