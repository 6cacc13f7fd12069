"""Not the package: Python imports this file as ``minifcn`` if it starts in the folder above the clone.

It loads the installed package in its own place, or says that there is none.  Without this file the import would
succeed, with a module that is empty.
"""

import sys
from importlib import import_module
from pathlib import Path

if __name__ == "minifcn":  # pytest imports this file under the name of the clone's folder
    _clone = Path(__file__).parent
    _packages = [Path(place, "minifcn") for place in sys.path]
    _packages = [p for p in _packages if (p / "__init__.py").is_file() and not p.samefile(_clone)]
    if not _packages:
        raise ImportError(f"minifcn is not installed in this Python: run `pip install -e {_clone}`")
    sys.path.insert(0, str(_packages[0].parent))
    del sys.modules[__name__]
    import_module(__name__)
