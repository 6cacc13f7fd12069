"""For type checkers: ``operators.pyi`` beside this file declares the operators and methods of Tensor.

``ops`` attaches them when the package is imported, because the operations stand above the engine.  At run time
`Attached`, the base of Tensor, is ``object``, and `Operand`, what an operation takes, is ``Any``.
"""

from typing import Any

Attached, Operand = object, Any
