"""How explanations run: the plan, the forward pass over the file, and executors for the way back."""
