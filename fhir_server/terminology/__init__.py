"""Value sets and code systems: which codes belong, and how they are called."""
