"""How explanations run: the plan, the forward pass over the file, and executors for the way back.

On a CPU the way back is a session of its own (``compiled``), or part of one with the forward pass
(``joint``); what rules write down for either is in ``tracing``.  On a GPU the forward pass leaves its tensors
there (``bindings``, ``forward_graph``), and the way back is walked on arrays (``device``, ``cuda_graph``).
"""
