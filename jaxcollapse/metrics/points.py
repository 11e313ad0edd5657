"""What metrics of points share."""

from jaxcollapse.base import Data, Measure
from jaxcollapse.measures import require_points


def shares(metric: str, **data: Data) -> list[Measure]:
    """Require points, and divide masses by their sum. A measure without mass has none to divide: it gets NaN.

    Raises:
        TypeError: if moments are given, which have no points.
    """
    measures = require_points(metric, **data)
    return [given._replace(weights=given.weights / given.weights.sum()) for given in measures]
