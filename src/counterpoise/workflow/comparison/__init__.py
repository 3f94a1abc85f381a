"""Strategies × seeds at equal budget, and what the numbers say: `compare`."""

from counterpoise.workflow.comparison.run import compare

__all__ = ["compare"]
