"""The GPU engine on the GPU that is at hand: is it right, and how fast?  ``python -m benchmarks.gpu``."""
