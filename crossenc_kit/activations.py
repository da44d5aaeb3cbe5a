"""What a raw score goes through, by name: "sigmoid", "identity", or the path of a module of `torch.nn`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def find_activation(choice: Callable | str | None) -> Callable | None:
    """An activation by name ("sigmoid", "identity", "torch.nn...Sigmoid") or as it is; None for None.

    Raises `ValueError` for names outside `torch.nn`: a model's configuration is not trusted to import.
    """
    if choice is None or callable(choice):
        return choice
    if not isinstance(choice, str):
        raise TypeError(f"an activation is a function or the name of one, got {choice!r}")
    from torch import nn

    package, _, name = choice.rpartition(".")
    name = {"sigmoid": "Sigmoid", "identity": "Identity"}.get(name, name)
    if package and not package.startswith("torch.nn"):
        raise ValueError(f"the activation {choice!r} is not part of torch.nn; pass activation_fn=... yourself")
    kind = getattr(nn, name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ValueError(f"unknown activation {choice!r}; use 'sigmoid', 'identity' or a module of torch.nn")
    try:
        return kind()
    except TypeError as error:
        raise ValueError(f"the activation {choice!r} needs arguments; pass it ready made: {error}") from error


def with_module(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `predict` with a module in the place of an activation's name: other libraries take no names."""
    named = isinstance(options.get("activation_fn"), str)
    return {**options, "activation_fn": find_activation(options["activation_fn"])} if named else dict(options)


def activated(choice: Callable | str) -> Callable[[np.ndarray], np.ndarray]:
    """A function of the N raw scores `(N,)` of a model with one label to what an activation makes of them."""
    activation = find_activation(choice)

    def apply(raw: np.ndarray) -> np.ndarray:
        import torch

        return activation(torch.from_numpy(raw)[:, None])[:, 0].numpy()  # type: ignore[misc]

    return apply


def activation_path(activation: Callable) -> str:
    """The name by which a saved model asks for its activation; warns where a name does not say it all."""
    kind = type(activation)
    path = f"{kind.__module__}.{kind.__qualname__}"
    try:
        again = find_activation(path)
    except ValueError:
        path = "torch.nn.modules.linear.Identity"
        again = find_activation(path)
    if repr(again) != repr(activation):
        warnings.warn(
            f"the activation {activation!r} is saved as {again!r}; pass activation_fn when you load the model",
            stacklevel=4,
        )
    return path
