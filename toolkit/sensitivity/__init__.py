"""What each linear costs in accuracy when it is quantized, and the recipe that keeps the worst ones in float."""

from toolkit.sensitivity.layers import LayerCost, measure_layers
from toolkit.sensitivity.search import Found, Goal, Score, confirmed, search
from toolkit.sensitivity.variants import Variants

__all__ = ["Found", "Goal", "LayerCost", "Score", "Variants", "confirmed", "measure_layers", "search"]
