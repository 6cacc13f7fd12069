"""Messages between the grader and the process that runs a submission: one line of JSON each, arrays in base64.

A submission can write any bytes into the pipe.  Reading a message therefore builds numbers, texts and arrays only: no
pickle, which would let the submission run code in the grader.
"""

import base64
import json

import numpy as np

LIMIT = 2**25  # bytes of one message; once parsed it can take a hundred times as much memory
KINDS = "biuf"  # kinds of dtype that can be sent: no object arrays, whose bytes are addresses


class WireError(ValueError):
    """A message that is too long or cannot be read."""


def send(file, message):
    """Write `message` (None, numbers, texts, arrays; tuples, lists and dicts of them; callables by their names)."""
    file.write(json.dumps(_encode(message)).encode() + b"\n")
    file.flush()


def receive(file, remote=None):
    """The next message; None at the end of the file; WireError if it cannot be read.

    Parameters
    ----------
    remote : callable, optional
        ``remote(name)`` returns a function to use in place of the sender's callable `name`.
    """
    line = file.readline(LIMIT)
    if not line.endswith(b"\n"):
        if len(line) == LIMIT:
            raise WireError("an answer of more than 32 MB")
        return None
    try:
        return _decode(json.loads(line), remote)
    except Exception as error:  # a submission can write any bytes into the pipe
        raise WireError(f"a message that cannot be read ({type(error).__name__})") from None


def _encode(value):
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.kind not in KINDS:
            return {"other": f"array of {array.dtype}"}
        data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
        return {"array": [array.dtype.str, list(array.shape), data, array.flags.c_contiguous]}
    if isinstance(value, tuple):
        return {"tuple": [_encode(v) for v in value]}
    if isinstance(value, list):
        return [_encode(v) for v in value]
    if isinstance(value, dict):
        return {"dict": {str(k): _encode(v) for k, v in value.items()}}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "wire_name"):
        return {"callable": value.wire_name}
    return {"other": type(value).__name__}


def _decode(value, remote):
    if isinstance(value, list):
        return [_decode(v, remote) for v in value]
    if isinstance(value, str):
        return value.encode(
            "utf-8", "replace"
        ).decode()  # a lone surrogate cannot be encoded, and would stop the writing of feedback
    if not isinstance(value, dict):
        return value
    ((kind, held),) = value.items()
    if kind == "array":
        return _array(*held)
    if kind == "tuple":
        return tuple(_decode(v, remote) for v in held)
    if kind == "dict":
        return {k: _decode(v, remote) for k, v in held.items()}
    if kind == "callable" and remote:
        return remote(held)
    return Other(str(held)[:100])


def _array(dtype, shape, data, contiguous):
    dtype = np.dtype(str(dtype))
    if dtype.kind not in KINDS:
        raise ValueError(f"cannot read an array of {dtype}: only booleans, integers and floats")
    array = np.frombuffer(base64.b64decode(data), dtype).reshape(shape).copy()
    return array if contiguous else hollow(array)


def hollow(array):
    """A copy that is not contiguous in memory; a message does not keep the strides of the array it came from."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)[..., ::2]
    wide[...] = array
    return wide


class Other:
    """Stands for a value that cannot be sent; it keeps the name of its type."""

    def __init__(self, name):
        self.name = name
