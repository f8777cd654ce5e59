"""Measurements: how fast the backward passes are, and how well heat maps point."""
