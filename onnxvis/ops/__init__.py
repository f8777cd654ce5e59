"""The closed set of primitives that rules may use, and one executor of it per file.

``primitives.Ops`` says what each primitive computes; ``host.HostOps`` runs them on NumPy arrays,
``trace.TraceOps`` writes them down as an ONNX graph.  To add an executor, subclass ``Ops`` and
implement its abstract methods: nothing else in onnxvis has to change.
"""
