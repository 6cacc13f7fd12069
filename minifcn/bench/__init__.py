"""Benchmarks of time and memory: named cases, each measured against another way or, on request, against PyTorch.

The two sides of a comparison run alternately, so that a busy moment of the machine slows both.  The report gives the
median of the ratios of neighbouring samples, with the smallest and the largest ratio.
"""
