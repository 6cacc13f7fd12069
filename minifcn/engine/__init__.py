"""The engine: tensors and the graph of functions, where each cell lies, and what checks, records and explains them."""
