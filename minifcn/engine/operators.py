"""For type checkers: ``operators.pyi`` beside this file declares the operators and methods of Tensor.

``ops`` attaches them when the package is imported, because the engine must not import the operations.  At run time
`Attached`, the base class of Tensor, is ``object``, and `Operand`, the type of an operation's arguments, is ``Any``.
"""

from typing import Any

Attached, Operand = object, Any
