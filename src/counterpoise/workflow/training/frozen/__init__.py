"""Frozen features: their extraction and cache, and the heads that are trained on them."""
