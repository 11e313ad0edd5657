"""Exact distances between clouds of points."""

import numpy as np
import scipy.spatial
from scipy.optimize import linear_sum_assignment


def exact_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Solve the assignment problem: the 2-Wasserstein distance between as many points."""
    cost = np.asarray(scipy.spatial.distance.cdist(x, y, "sqeuclidean"))
    return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))
