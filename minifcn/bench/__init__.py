"""How fast is it, and how much memory does it take: cases by name, measured in pairs, against PyTorch if it is there.

Whatever is compared runs in turns, so that a busy moment of the machine meets both; what is reported is the median of
the ratios of neighbours, with the least and the greatest.
"""
