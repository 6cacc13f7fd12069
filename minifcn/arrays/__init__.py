"""Arrays: the library that owns one, memory that is reused, arrays that must not change, ranks that share the work."""
