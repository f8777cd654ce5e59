"""What a model is: reading it, its layer graph and canonical form, and what can be read off it."""
