"""What one backward step does: a rule an operator and method, in a registry.

``gradient/`` holds the gradient of every operator, by families; ``rectifiers`` what DeconvNet and
guided backpropagation do at activations; ``lrp`` the relevance rules; ``composites`` which rule goes
where.  Importing this package registers all of them.
"""

from .registry import Linear, Rule, linear, lrp_rule, registry, rule, stop
from .step import Step

registry.add_method("gradient", doc="the derivative")
registry.add_method("deconvnet", "gradient", doc="at a rectifier, what is positive on the way back")
registry.add_method("guided_backprop", "gradient", doc="at a rectifier, what is positive both ways")
registry.add_method("lrp", doc="relevance: operators that carry it along", epsilon=1e-6)

from . import gradient, lrp, rectifiers  # noqa: E402, I001  (they fill the registry; lrp builds on gradient)
from .composites import Composite  # noqa: E402

__all__ = [
    "Composite", "Linear", "Rule", "Step", "gradient", "linear", "lrp", "lrp_rule", "rectifiers", "registry",
    "rule", "stop",
]  # fmt: skip
