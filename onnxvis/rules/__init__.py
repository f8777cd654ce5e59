"""What one backward step does: a rule an operator and method, in a registry.

``gradient/`` holds the gradient of every operator, by families; ``rectifiers`` what DeconvNet and
guided backpropagation do at activations; ``lrp`` the relevance rules; ``composites`` which rule goes
where, by ``positions`` among others.  Importing this package registers all of them.
"""

from . import gradient, lrp, rectifiers
from .composites import Composite
from .linear_operators import Linear
from .registry import Rule, linear, lrp_rule, refuse, registry, rule, stop
from .step import Step

__all__ = [
    "Composite", "Linear", "Rule", "Step", "gradient", "linear", "lrp", "lrp_rule", "rectifiers", "refuse",
    "registry", "rule", "stop",
]  # fmt: skip

registry.complete()
