"""Layers: operations with parameters.  Module, Parameter, the layers, their initialisers.

``module.summary(input_size)`` is attached here.
"""

from . import init
from .layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    ReLU,
)
from .module import Buffer, Module, Parameter, Sequential
from .summary import summary

__all__ = [
    "AvgPool2d", "BatchNorm2d", "Buffer", "Conv2d", "ConvTranspose2d", "Dropout", "Flatten", "Linear",
    "LocalResponseNorm", "MaxPool2d", "Module", "Parameter", "ReLU", "Sequential", "init",
    "summary",
]  # fmt: skip

Module.summary = summary
