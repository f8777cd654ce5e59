"""How explanations run: the plan, the forward pass over the file, and executors for the way back.

On a CPU the way back is a session of its own (``compiled``), or part of one with the forward pass
(``joint``); what rules write down for either is in ``tracing``.
"""
