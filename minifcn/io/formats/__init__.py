"""One reader a file for the weight files that other programs write.  No reader runs anything that a file says."""
