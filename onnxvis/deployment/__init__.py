"""Prediction and explanation as one ONNX model, which any ONNX runtime runs.

``draft`` traces an explanation on top of the file's own tensors; ``recipes`` says what each method
computes there, ``target.traced`` where it starts, ``heatmaps`` what is shown of it, ``weights`` where the
file has its numbers.  ``engine.batches`` makes of two traces one graph for any number of samples;
``pictures`` puts the preparation of photos in front; ``assembly`` joins it all with the file.
``verification`` compares it with the library, ``writing`` puts it in its place.  ``request`` is what is asked
for, ``metadata`` what the model says of itself, and ``export`` does it all.
"""

from .export import export
from .pictures import LAYOUTS
from .recipes import exportable
from .request import OUTPUTS, Exported, Form, Subject

__all__ = ["LAYOUTS", "OUTPUTS", "Exported", "Form", "Subject", "export", "exportable"]
