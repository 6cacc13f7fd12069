"""Read a pickle without running it.

A pickle is a program: its instructions can import any function and call it.  This interpreter has no instruction that
imports, creates an object of a class, or sets an attribute.  It knows the few instructions that write plain data; the
name of a function is a text, and a "call" looks it up in `CALLS`, which holds functions of minifcn only.
"""

import math
from collections.abc import Callable
from pickletools import genops
from typing import Any

from .common import Unfit
from .values import KINDS, Name, Packed, Storage, Tensor, Type, is_shape, of_kind

INSTRUCTIONS = 300_000  # a network has some 30 for each tensor
VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
CONSTANT = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


def _tensor(storage, offset, shape, strides, *_):
    if not (isinstance(storage, Storage) and is_shape((offset,)) and is_shape(shape) and is_shape(strides)):
        raise Unfit("the parts of a tensor in it do not fit together; give another file")
    if len(shape) != len(strides):
        raise Unfit(f"a tensor in it has {len(shape)} sizes and {len(strides)} strides; give another file")
    if math.prod(shape) and offset + sum((n - 1) * s for n, s in zip(shape, strides)) >= storage.length:
        raise Unfit("a tensor in it does not lie within its storage; give another file")
    return Tensor(storage, offset, shape, strides)


def _scalar(kind, raw=b""):
    return Packed((), kind, raw)


def _from_buffer(raw, kind, shape, order):
    return Packed(shape, kind, raw, order == "F")


CALLS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": lambda pairs=(): dict(_pairs(pairs)),
    "collections defaultdict": lambda *_: {},
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": lambda tensor, *_: tensor,
    "torch Size": lambda shape: shape,
    "numpy dtype": Type,
    "numpy.core.multiarray _reconstruct": lambda *_: Packed(),
    "numpy.core.multiarray scalar": _scalar,
    "numpy.core.numeric _frombuffer": _from_buffer,
    "_codecs encode": lambda text, _: text,  # Python 3's bytes in protocol 2; a Packed encodes them when it is needed
}
CLASSES = {"numpy ndarray", "builtins dict", "__builtin__ dict"}  # named in arguments only


def _pairs(pairs):
    for pair in pairs:
        key, value = pair
        yield _key(key), value


def _key(key):
    """A key of a dict.  The hash of a nested tuple takes a time that grows exponentially with its depth."""
    if type(key) not in (str, bytes, int):
        raise Unfit("a dict in it has a key that is neither a text nor a number; save the weights alone")
    return key


def _name(name):
    name = name.replace("numpy._core", "numpy.core")
    if name in CALLS or name in CLASSES or name.removeprefix("torch ").removesuffix("Storage") in KINDS:
        return Name(name)
    raise Unfit(f"it asks for {name[:100].replace(' ', '.')!r}, which minifcn does not run; save the state_dict alone")


def unpickle(stream: Any, storage: Callable[[Any], Storage] | None = None) -> Any:
    """The value of a pickle: None, booleans, numbers, texts, bytes, lists, tuples, dicts, `Tensor` and `Packed`.

    Parameters
    ----------
    stream : mmap or BytesIO
        Read up to the end of the pickle.
    storage : function, optional
        From a persistent id to the `Storage` that it stands for; without it, a persistent id is refused.

    Raises
    ------
    Unfit
        If the pickle has an instruction or a name that weights do not need, or is too long.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    spent = 0

    def since_mark():
        at = marks.pop()
        items = stack[at:]
        del stack[at:]
        return items

    def put_all(target, items):
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def call(name, arguments):
        nonlocal spent
        if not (isinstance(name, Name) and name in CALLS and isinstance(arguments, tuple)):
            raise Unfit("it calls what is no function; give another file")
        spent += sum(len(a) for a in arguments if isinstance(a, list))
        if spent > INSTRUCTIONS:
            raise Unfit("its dicts are too large; give another file")
        return CALLS[name](*arguments)

    for number, (instruction, argument, _) in enumerate(genops(stream)):
        if number > INSTRUCTIONS:
            raise Unfit(f"its pickle has more than {INSTRUCTIONS:,} instructions; save the state_dict alone")
        kind = instruction.name
        if kind in VALUES:
            if isinstance(argument, int) and argument.bit_length() > 128:
                raise Unfit("it holds an integer of more than 128 bits; give another file")
            stack.append(argument)
            continue
        match kind:
            case "PROTO" | "FRAME":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append(CONSTANT[kind])
            case "MARK":
                marks.append(len(stack))
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_TUPLE":
                stack.append(())
            case "LIST":
                stack.append(since_mark())
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                marks.append(len(stack) - int(kind[-1]))
                stack.append(tuple(since_mark()))
            case "DICT":
                items = since_mark()
                stack.append({})
                put_all(stack[-1], items)
            case "APPEND":
                value = stack.pop()
                of_kind(list, stack[-1]).append(value)
            case "APPENDS":
                items = since_mark()
                of_kind(list, stack[-1]).extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                put_all(of_kind(dict, stack[-1]), [key, value])
            case "SETITEMS":
                items = since_mark()
                put_all(of_kind(dict, stack[-1]), items)
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[of_kind(int, argument)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[of_kind(int, argument)])
            case "GLOBAL":
                stack.append(_name(argument))
            case "STACK_GLOBAL":
                name, module = of_kind(str, stack.pop()), of_kind(str, stack.pop())
                stack.append(_name(f"{module} {name}"))
            case "REDUCE":
                arguments = stack.pop()
                stack.append(call(stack.pop(), arguments))
            case "BUILD":
                state = stack.pop()
                if not isinstance(stack[-1], dict):  # a dict's attributes, such as the _metadata of a state_dict
                    of_kind(Type | Packed, stack[-1]).build(state)
            case "PERSID" | "BINPERSID" if storage:
                stack.append(storage(argument if kind == "PERSID" else stack.pop()))
            case "STOP":
                return stack.pop()
            case _:
                raise Unfit(f"its pickle has the instruction {kind}, which weights do not need; save them alone")
