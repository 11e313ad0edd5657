"""Real data, and the features they are compared in."""
