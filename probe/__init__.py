"""Linear probing: the features of a frozen backbone, a new last layer, and the command ``tritium probe``.

    model = tritium.models.resnet18(weights="IMAGENET1K_V1")
    tritium.probe.freeze(model, except_="fc")           # stays frozen when model.train() is called
    tritium.probe.replace_head(model, num_classes=10)

    features = tritium.probe.extract_features(model, dataset)   # or: once, and then only the last layer
    head, scores = tritium.probe.probe_features(features, features_of_other_images)
"""
from typing import Any

_PLACES = {
    "backbone": ("Backbone", "freeze", "head_name", "load_backbone", "replace_head", "unfreeze", "without_head"),
    "data": ("Data", "Images", "digits_data", "open_data"),
    "embedded": ("run_embedded",),
    "errors": ("ProbeError",),
    "features": ("Features", "cached_features", "extract_features"),
    "head": ("LinearProbe", "Recipe", "probe_features"),
    "scores": ("Scores",),
    "workflow": ("Result", "Settings", "run"),
}
_NAMES = {name: place for place, names in _PLACES.items() for name in names}
__all__ = sorted(_NAMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    """The names are imported when they are first used: the command's ``--help`` needs none of them."""
    if name in _NAMES:
        from importlib import import_module

        return getattr(import_module(f"tritium.probe.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'tritium.probe' has no attribute {name!r}")
