"""Special NumPy versions of kernels, where they pay: worker threads, bands under a fixed workspace, compact indices."""
