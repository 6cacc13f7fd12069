"""The section of a notebook that explains what a task asks for."""

import re
from urllib.parse import quote

from ..io.language import chosen
from .notebooks import translated_heading

SECTIONS = {  # task: notebook, heading
    "1.1": ("01_tensors_and_backward", "Thirty lines of autograd"),
    "1.2": ("01_tensors_and_backward", "The same with arrays"),
    "1.3": ("01_tensors_and_backward", "Newest first"),
    "1.4": ("01_tensors_and_backward", "Is a gradient right?"),
    "1.5": ("01_tensors_and_backward", "Is a gradient right?"),
    "1.6": ("03_pooling", "The maximum of a window"),
    "2.1": ("02_convolution", "All windows at once: im2col"),
    "2.2": ("02_convolution", "All windows at once: im2col"),
    "2.3": ("02_convolution", "The adjoint"),
    "2.4": ("02_convolution", "Backward"),
    "2.5": ("02_convolution", "Backward"),
    "3.1": ("03_pooling", "Rounding"),
    "3.2": ("03_pooling", "The maximum of a window"),
    "3.3": ("03_pooling", "Backward: the maximum gets the whole gradient"),
    "3.4": ("09_upsampling", "A convolution is a matrix; its backward pass is the transposed matrix"),
    "3.5": ("09_upsampling", 'What "transposed" means'),
    "3.6": ("09_upsampling", "The weights that interpolate"),
    "4.1": ("05_loss_over_space", "All pixels"),
    "4.2": ("05_loss_over_space", "The gradient is a map too"),
    "4.3": ("06_patches", "Patch by patch: the same numbers"),
    "4.4": ("06_patches", "Patch by patch: the same numbers"),
    "4.5": ("12_loss_sampling", "A sample of patches is a mask on the loss"),
    "4.6": ("13_sum_or_mean", "The same steps at another learning rate"),
    "4.7": ("13_sum_or_mean", "Twenty images and 0.9, or one image and 0.99"),
    "5.1": ("04_receptive_fields", "The recursion, derived"),
    "5.2": ("07_from_classifier_to_fcn", "A fully connected layer is a convolution"),
    "5.3": ("10_skips_and_crops", "Where maps lie"),
    "5.4": ("10_skips_and_crops", "Where maps lie"),
    "5.5": ("10_skips_and_crops", "Why a padding of 100?"),
    "6.1": ("10_skips_and_crops", "Fusion on an image"),
    "6.2": ("13_sum_or_mean", "Momentum"),
    "6.3": ("14_metrics", "The four measures"),
    "6.4": ("11_training_on_earth", "The training loop"),
    "6.5": ("11_training_on_earth", "The training loop"),
    "7.1": ("15_cuda_kernel", "Max pooling"),
    "7.2": ("15_cuda_kernel", "Gather instead"),
}


def link(number, site=None):
    """The address of the section for a task, its notebook and its heading; None for a task without a section.

    If the notebook has a translation into the chosen language, it is the translated one.

    Parameters
    ----------
    number : str
    site : str, optional
        The address of the built documentation, ``"https://…"``; without it the address is that of the notebook's
        file, in a folder ``notebooks`` beside the page's folder.
    """
    if number not in SECTIONS:
        return None
    notebook, heading = SECTIONS[number]
    if chosen() != "en" and (translated := translated_heading(notebook, heading, chosen())):
        notebook, heading = f"{chosen()}/{notebook}", translated
    if site:
        anchor = re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") if heading.isascii() else ""
        address = f"{site.rstrip('/')}/notebooks/{notebook}.html#{anchor}".rstrip("#")
    else:
        address = f"../notebooks/{notebook}.ipynb#{quote(heading.replace(' ', '-'))}"
    return address, f"{notebook}.ipynb", heading
