"""The description of a run: what its header says before the first step."""

import sys

from ..arrays import backend, parallel
from ..data.bands import RGB
from ..engine.core import Tensor, no_grad
from ..geometry import receptive_field
from ..kernels import shapes_only
from ..kernels.compiled import compiler
from ..kernels.cpu import blas, workers
from ..kernels.shapes import stand_in
from ..nn import optim
from ..nn.module import evaluating


def header(s, model, optimizer, train, val, weight, pixels):
    """The description of the run, {topic: one line}; `pixels` is the number of pixels that count in a typical batch."""
    xp = backend.of(model.parameters()[0].data)
    seen = _field(model, train.dataset[0][0].shape[:2])
    weights = "".join(
        f"; class weights{f' of {head}' * bool(head)} {' '.join(f'{w:.2g}' for w in values)}"
        for head, values in (weight if isinstance(weight, dict) else {"": weight}).items()
        if values is not None
    )
    sampled = "" if s.sampling == 1 else f"; each pixel counts with probability {s.sampling:g}"
    drawn = "" if s.val is None else f" (drawn with seed {s.seed})"
    ranks = parallel.world().size
    shared = f"; {ranks} ranks, each on its part of a batch" if ranks > 1 else ""
    images = min(s.batch_size, len(train.dataset))
    summed = s.reduction == "sum"
    together = pixels * s.accumulate if summed else pixels
    step = f"effective {optim.effective_step(optimizer, s.reduction, together, images):.3g}"
    if s.optimizer == "sgd" and summed:
        step += f" = lr · N / (1 − momentum), with N = {together:,} pixels a {'batch' if s.accumulate == 1 else 'step'}"
    return dict(
        arrays=f"{xp.__name__} {xp.__version__}, BLAS {_blas()}, {workers.threads()} worker threads{_loops(xp)}",
        data=f"{s.dataset}{_layout(train.dataset)}: {len(train.dataset) // s.repeat} images to train on, "
        f"{len(val.dataset)} to validate on{drawn}, {_classes(model)}{_bands(model)}"
        + (f"; shorter side {s.size} pixels" if s.size else ""),
        augmenting=_augmentation(s),
        model=f"{s.model}{', late fusion' * (s.fusion == 'late')}: {model.num_parameters():,} parameters; a pixel sees "
        f"{seen[0]}×{seen[1]} pixels",
        loss=f"{s.loss.replace('_', '-')}, reduction {s.reduction}{_auxiliary(model)}{sampled}{weights}",
        optimiser=f"{s.optimizer}, lr {optimizer.lr:g} ({s.schedule}), weight decay {s.weight_decay:g}"
        + (f", gradients clipped at {s.clip:g}" if s.clip is not None else "")
        + (f", weights averaged with decay {s.ema:g}" if s.ema else ""),
        step=step,
        length=f"epochs {s.epochs}, each of {len(train)} batches of {images}"
        + (f" in {s.repeat} passes" if s.repeat > 1 else "")
        + (f", until {s.stop_after} bring no better mean IU" if s.stop_after else "")
        + f"; seed {s.seed}{shared}",
    )


def _classes(model):
    """The numbers of classes in the header, of every head."""
    if not model.kinds:
        return f"{model.num_classes} classes"
    each = " and ".join(f"{model.heads[kind].num_classes} classes ({kind})" for kind in model.kinds)
    return f"{each}, whose losses are added; the mean IU of {model.first} says which epoch is best"


def _loops(xp):
    """In the header, that kernels are compiled.  They are compiled now, before the first step."""
    if xp.__name__ != "numpy" or not compiler.available():
        return ""
    seconds = compiler.warm_up()
    if seconds > 1:  # not in the header, which a repeated run must have, too
        print(
            f"compiling   took {seconds:.1f} s; the machine code is kept for the next run", file=sys.stderr, flush=True
        )
    return ", compiled loops" if compiler.works() else ""


def _layout(data):
    """In the header, what says that a folder has the layout of another program."""
    return f" ({data.why})" if getattr(data, "why", "") else ""


def _augmentation(s):
    """The random changes of the training images in the header."""
    changes = ["mirrored"] * s.mirror
    changes += [f"scale {s.scale[0]:.3g} to {s.scale[1]:.3g}"] * (list(s.scale) != [1, 1])
    changes += [f"crops of {s.crop[0]}×{s.crop[1]} pixels"] if s.crop else []
    changes += [f"jitter {s.jitter:.0%} of the sides"] * bool(s.jitter) + [f"colour {s.colour:g}"] * bool(s.colour)
    return ", ".join(changes) or "none"


def _auxiliary(model):
    """In the header, the weight of the loss of an auxiliary head."""
    head = getattr(model, "heads", {}).get("aux")
    return "" if head is None else f", auxiliary loss × {head.loss_weight:g}"


def _bands(model):
    """The bands in the header, unless they are the usual ones."""
    bits = model.preprocessing.bits
    return "" if (model.bands, bits) == (RGB, 8) else f"; bands {', '.join(model.bands)} ({bits} bits)"


def _blas():
    """The name, version and number of threads of NumPy's BLAS."""
    found = blas.description()
    return f"{found['internal_api']} {found['version']} with {found['num_threads']} threads" if found else "unknown"


def _field(model, size):
    """The size of the receptive field of a pixel's scores, for images of `size`."""
    with evaluating(model), no_grad(), shapes_only():
        image = Tensor(stand_in(model.parameters()[0].data, (1, model.in_channels, *size)))
        return receptive_field(model(image), image).size


def conversion(model):
    """The model's preprocessing as a formula."""
    p = model.preprocessing
    mean, scale = (", ".join(f"{v:.4g}" for v in values) for values in (p.mean, p.scale))
    return f"({p.order if p.channels == 3 else 'image'} − ({mean})) · ({scale})"
