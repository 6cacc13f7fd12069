"""NumPy versions of kernels that are faster than the textbook's: worker threads, bands of fixed size, small indices."""
