"""Arrays: which library owns one, memory that is used again, arrays that must not change, ranks that share work."""
