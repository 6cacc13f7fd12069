"""The algorithms of convolution on the CPU, and the rule that chooses one (``choice.py``)."""
