"""Where a type checker finds Tensor's operators and methods: in ``operators.pyi``.

``ops`` attaches them when the package is imported, because the operations stand above the engine.  At run time
`Attached`, the base of Tensor, is ``object``, and `Operand`, what an operation takes, is ``Any``.
"""

from typing import Any

Attached, Operand = object, Any
