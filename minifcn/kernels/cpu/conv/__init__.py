"""The algorithms of convolution on the CPU, and the rule that chooses one of them (``choice.py``)."""
