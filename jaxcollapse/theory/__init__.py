"""Theory: what the recursion does, without simulating it."""
