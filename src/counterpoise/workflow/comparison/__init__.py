"""Comparison of strategies at equal budget."""

from counterpoise.workflow.comparison.experiment import compare

__all__ = ["compare"]
