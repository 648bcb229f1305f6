"""State dicts: what a module writes into one, and how it is filled from one.

`Module` forwards to the functions here. A state dict is an OrderedDict of full names to tensors, parameters
before buffers, children after their parent; its `_metadata` attribute maps every module's name to {'version':
n}, so that a newer layer can read what an older one wrote (BatchNorm's `num_batches_tracked`).
Follows https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html, with one addition: an error about
keys that do not match also says which keys were probably meant.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict, namedtuple
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tritium.tensor.grad_mode import no_grad
from tritium.tensor.parameter import Parameter
from tritium.tensor.tensor import Tensor

if TYPE_CHECKING:
    from tritium.nn.modules.module import Module

EXTRA_STATE = "_extra_state"


class IncompatibleKeys(namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])):
    """What `load_state_dict` returns: the names the module has and the dict lacks, and the other way
    round."""

    __slots__ = ()

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return (
            f"_IncompatibleKeys(missing_keys={self.missing_keys!r}, unexpected_keys={self.unexpected_keys!r})"
        )

    __str__ = __repr__


# --------------------------------------------------------------------------------------------------- writing


def collect(module: Module, destination: Any, prefix: str, keep_vars: bool) -> Any:
    """Write `module` and everything below it into `destination` (a new one if None) and run its state-dict
    hooks."""
    if destination is None:
        destination = OrderedDict()
        destination._metadata = OrderedDict()
    local_metadata = {"version": module._version}
    if hasattr(destination, "_metadata"):
        destination._metadata[prefix[:-1]] = local_metadata
    for hook in module._state_dict_pre_hooks.values():
        hook(module, prefix, keep_vars)
    module._save_to_state_dict(destination, prefix, keep_vars)
    for name, child in module._modules.items():
        if child is not None:
            child.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
    for hook in module._state_dict_hooks.values():
        result = hook(module, destination, prefix, local_metadata)
        if result is None:
            continue
        if getattr(hook, "_from_public_api", False):
            raise RuntimeError("state_dict post-hook must return None")
        destination = result
    return destination


def save_own(module: Module, destination: Any, prefix: str, keep_vars: bool) -> None:
    """Write the parameters, persistent buffers and extra state of `module` itself, not of its children."""
    for name, tensor in own_tensors(module).items():
        destination[prefix + name] = tensor if keep_vars else tensor.detach()
    if has_extra_state(module, "get_extra_state"):
        destination[prefix + EXTRA_STATE] = module.get_extra_state()


def own_tensors(module: Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers of `module` itself by name, those that are None left out."""
    tensors: dict[str, Tensor] = {name: param for name, param in module._parameters.items() if param is not None}
    transient = module._non_persistent_buffers_set
    tensors.update((n, b) for n, b in module._buffers.items() if b is not None and n not in transient)
    return tensors


def has_extra_state(module: Module, method: str) -> bool:
    from tritium.nn.modules.module import Module

    return getattr(type(module), method) is not getattr(Module, method)


# --------------------------------------------------------------------------------------------------- reading


def load(module: Module, state_dict: Mapping[str, Any], strict: bool, assign: bool) -> IncompatibleKeys:
    """Fill `module` from `state_dict`; raises TypeError for what is not a mapping, RuntimeError for what does
    not fit."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
    missing: list[str] = []
    unexpected: list[str] = []
    errors: list[str] = []
    metadata = getattr(state_dict, "_metadata", None)
    copy: Any = OrderedDict(state_dict)  # a layer may add keys that an old version did not write
    if metadata is not None:
        copy._metadata = metadata
    load_tree(module, copy, "", metadata, assign, missing, unexpected, errors)
    if strict:
        if unexpected:
            errors.insert(0, f"Unexpected key(s) in state_dict: {quoted(unexpected)}. ")
        if missing:
            errors.insert(0, f"Missing key(s) in state_dict: {quoted(missing)}. ")
        if missing and unexpected:
            errors.extend(suggestions(missing, unexpected))
    if errors:
        lines = "\n\t".join(errors)
        raise RuntimeError(f"Error(s) in loading state_dict for {type(module).__name__}:\n\t{lines}")
    return IncompatibleKeys(missing, unexpected)


def load_tree(
    module: Module,
    state_dict: Any,
    prefix: str,
    metadata: Any,
    assign: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    """Load `module`, then each child from the part of the dict that carries the child's name, then run the
    post hooks."""
    local_metadata = {} if metadata is None else metadata.get(prefix[:-1], {})
    if assign:
        local_metadata["assign_to_params_buffers"] = assign
    module._load_from_state_dict(state_dict, prefix, local_metadata, True, missing, unexpected, errors)
    for name, child in module._modules.items():
        if child is not None:
            child_prefix = f"{prefix}{name}."
            part = {key: value for key, value in state_dict.items() if key.startswith(child_prefix)}
            load_tree(child, part, child_prefix, metadata, assign, missing, unexpected, errors)
    for hook in module._load_state_dict_post_hooks.values():
        # The hook may edit the two lists; returning something else has no meaning.
        if hook(module, IncompatibleKeys(missing, unexpected)) is not None:
            raise AssertionError(
                "Hooks registered with ``register_load_state_dict_post_hook`` are not "
                "expected to return new values, if incompatible_keys need to be modified, "
                "it should be done inplace."
            )


def load_own(
    module: Module,
    state_dict: Any,
    prefix: str,
    local_metadata: dict[str, Any],
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    """Fill the tensors of `module` itself; what does not fit is appended to the three lists, nothing is
    raised."""
    for hook in module._load_state_dict_pre_hooks.values():
        hook(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)
    own = own_tensors(module)
    assign = local_metadata.get("assign_to_params_buffers", False)
    for name, current in own.items():
        key = prefix + name
        if key in state_dict:
            problem = fill(module, name, current, key, state_dict[key], assign)
            if problem:
                errors.append(problem)
        elif strict:
            missing.append(key)

    extra_key = prefix + EXTRA_STATE
    if has_extra_state(module, "set_extra_state"):
        if extra_key in state_dict:
            module.set_extra_state(state_dict[extra_key])
        elif strict:
            missing.append(extra_key)
    elif strict and extra_key in state_dict:
        unexpected.append(extra_key)

    if not strict:
        return
    for key in state_dict:
        if key == extra_key or not key.startswith(prefix):
            continue
        head, dot, _ = key[len(prefix) :].partition(".")
        if head not in (module._modules if dot else own):
            unexpected.append(key)


def fill(module: Module, name: str, current: Tensor, key: str, new: Any, assign: bool) -> str | None:
    """Put `new` into the tensor `name` of `module` (or in its place, with `assign`); the reason if it can not
    be done."""
    if not isinstance(new, Tensor):
        return (
            f'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like object from checkpoint '
            f"but received {type(new)}"
        )
    if current.ndim == 0 and new.ndim == 1 and new.shape[0] == 1:
        new = new[0]  # before 0.4 a scalar was written as one element
    if new.shape != current.shape:
        return (
            f"size mismatch for {key}: copying a param with shape {new.shape} from checkpoint, "
            f"the shape in current model is {current.shape}."
        )
    try:
        with no_grad():
            if assign:
                if isinstance(current, Parameter):
                    if isinstance(new, Parameter):
                        new.requires_grad_(current.requires_grad)
                    else:
                        new = Parameter(new, requires_grad=current.requires_grad)
                setattr(module, name, new)
            else:
                current.copy_(new)
    except Exception as error:  # every tensor that does not fit is reported, not only the first
        return (
            f'While copying the parameter named "{key}", whose dimensions in the model are {current.size()} and '
            f"whose dimensions in the checkpoint are {new.size()}, an exception occurred : {error.args}."
        )
    return None


# ----------------------------------------------------------------------------------------------- suggestions

SUGGESTIONS_SHOWN = 8


def quoted(keys: list[str]) -> str:
    return ", ".join(f'"{key}"' for key in keys)


def suggestions(missing: list[str], unexpected: list[str]) -> list[str]:
    """Which unexpected key was probably meant by which missing one: a common prefix first, else the nearest
    name."""
    wanted = set(missing)
    for prefix in dict.fromkeys(leading_parts(unexpected[0])):
        stripped = [key[len(prefix) :] for key in unexpected if key.startswith(prefix)]
        if len(stripped) == len(unexpected) and wanted.intersection(stripped):
            wrapper = ", as DataParallel writes them" if prefix == "module." else ""
            return [
                f'Did you mean the keys without their prefix "{prefix}"? All {len(unexpected)} unexpected keys have it'
                f"{wrapper}: nn.modules.utils.consume_prefix_in_state_dict_if_present(state_dict, {prefix!r}) "
                "removes it."
            ]
    given = set(unexpected)
    for prefix in dict.fromkeys(leading_parts(missing[0])):
        if all(key.startswith(prefix) for key in missing) and given.intersection(
            k[len(prefix) :] for k in missing
        ):
            return [
                f'Did you mean the keys with the prefix "{prefix}"? The model has it, the state_dict has not.'
            ]
    return nearest_names(missing, unexpected)


def leading_parts(key: str) -> list[str]:
    """'a.b.c' -> ['a.', 'a.b.']"""
    parts = key.split(".")
    return [".".join(parts[:n]) + "." for n in range(1, len(parts))]


def nearest_names(missing: list[str], unexpected: list[str]) -> list[str]:
    from difflib import get_close_matches

    lines = []
    for key in missing[:SUGGESTIONS_SHOWN]:
        # A name that ends alike is the better guess: "fc.weight" is looked for among the weights first.
        tail = key.rpartition(".")[2]
        alike = [name for name in unexpected if name.rpartition(".")[2] == tail]
        match = get_close_matches(key, alike, n=1, cutoff=0.4) or get_close_matches(
            key, unexpected, n=1, cutoff=0.6
        )
        if match:
            lines.append(f'Did you mean: the model\'s "{key}" is nearest to "{match[0]}" in the state_dict.')
    return lines


def warn_positional() -> None:
    warnings.warn(
        "Positional args are being deprecated, use kwargs instead. Refer to "
        "https://pytorch.org/docs/main/generated/torch.nn.Module.html#torch.nn.Module.state_dict for details.",
        FutureWarning,
        stacklevel=3,
    )
