"""How a notebook displays a Tensor: one line of facts, and a thumbnail if it holds an image or maps."""

import io
from base64 import b64encode
from html import escape

import numpy as np
from PIL import Image

from ..arrays import backend
from .maps import mosaic

SIDE = 160  # pixels of a thumbnail's longer side


def summary_html(tensor):
    """The name, shape, dtype, device, range and number of NaNs of a Tensor, and a thumbnail of its first image."""
    facts = [f"<b>{escape(tensor.name or 'Tensor')}</b>", "×".join(map(str, tensor.shape)) or "a number"]
    facts += [str(tensor.dtype), tensor.device]
    array = backend.asnumpy(tensor.data)
    if array.size == 1:
        facts.append(f"= {array.item():.6g}")
    elif array.size:
        finite = array[np.isfinite(array)]
        facts.append(f"{finite.min():.3g} … {finite.max():.3g}" if finite.size else "nothing finite")
        if array.dtype.kind == "f" and (nan := int(np.isnan(array).sum())):
            facts.append(f'<span style="color:#D55E00">{nan:,} NaN</span>')
    if tensor.requires_grad:
        facts.append(f"from {type(tensor.creator).__name__}" if tensor.creator else "requires a gradient")
    text = f'<div style="font-family:monospace;font-size:90%">{" · ".join(facts)}</div>'
    if array.ndim >= 2 and min(array.shape[-2:]) > 1 and array.size:
        text += f'<img alt="" style="image-rendering:pixelated" src="data:image/png;base64,{_thumbnail(array)}">'
    return text


def _thumbnail(array):
    """A PNG in base64 of the first image: in colour if it has three channels, else a mosaic of its maps."""
    if array.ndim == 4 and array.shape[1] == 3:
        picture, grey = array[0].transpose(1, 2, 0).astype(float), np.zeros(array.shape[2:], bool)
    else:
        picture = mosaic(array)
        grey = np.isnan(picture)
    finite = picture[np.isfinite(picture)]
    low, high = (finite.min(), finite.max()) if finite.size else (0, 1)
    picture = np.nan_to_num(255 * (picture - low) / max(high - low, 1e-30), nan=255, posinf=255, neginf=0)
    picture[grey] = 255
    picture = Image.fromarray(picture.astype(np.uint8))
    scale = SIDE / max(picture.size)
    size = [max(1, round(n * scale)) for n in picture.size]
    picture = picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return b64encode(buffer.getvalue()).decode()
