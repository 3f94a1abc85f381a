"""Scores to scores: corrections of saved logits that need no training. NumPy or torch in, the same out."""

from counterpoise.posthoc.adjustment import adjust_logits

__all__ = ["adjust_logits"]
