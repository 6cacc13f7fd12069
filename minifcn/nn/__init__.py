"""Neural network modules: Module, Parameter, the layers, their initialisers, and net surgery."""

from . import init, surgery
from .layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    Pad,
    ReLU,
    ReLU6,
    Scale,
)
from .module import Branches, Buffer, Module, Parameter, Residual, Sequential
from .summary import summary

__all__ = [
    "AvgPool2d", "BatchNorm2d", "Branches", "Buffer", "Conv2d", "ConvTranspose2d", "Dropout", "Flatten",
    "GlobalAvgPool2d", "Linear", "LocalResponseNorm", "MaxPool2d", "Module", "Pad", "Parameter", "ReLU", "ReLU6",
    "Residual", "Scale", "Sequential", "init", "summary", "surgery",
]  # fmt: skip

Module.summary = summary  # here, because summary.py imports module.py
