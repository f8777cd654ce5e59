"""onnxruntime's CUDA provider, as far as a CPU can stand in for it."""

import onnxruntime

from .stand_in import again

__all__ = ["OnDevice", "Session", "on_device"]


class OnDevice:
    """An OrtValue that says that its memory is the device's."""

    def __init__(self, value, readable=False):
        self.value, self.readable = value, readable

    def __getattr__(self, name):
        return getattr(self.value, name)

    def device_name(self):
        self.value.device_name()  # which onnxruntime does not say of sequences
        return "Cuda"

    def numpy(self):
        assert self.readable, "copied through the host"
        return self.value.numpy()


def on_device(array):
    return OnDevice(onnxruntime.OrtValue.ortvalue_from_numpy(array))


class Session:
    """onnxruntime's CPU session that calls itself one on the GPU, with what was bound written down.

    ``graphs``: it was built for a CUDA graph; what it runs while that is captured, each launch runs again.
    """

    def __init__(self, session, providers, graphs=False):
        self.session, self.providers, self.graphs = session, providers, graphs
        self.bound, self.runs, self.waited = [], 0, True

    def __getattr__(self, name):
        return getattr(self.session, name)

    def get_providers(self):
        return self.providers

    def io_binding(self):
        binding, bound, graphs = self.session.io_binding(), self.bound, self.graphs

        class Binding:
            own = binding

            @staticmethod
            def bind_ortvalue_input(name, value):
                binding.bind_ortvalue_input(name, getattr(value, "value", value))

            @staticmethod
            def get_outputs():
                return [OnDevice(value, readable=True) for value in binding.get_outputs()]

            @staticmethod
            def bind_input(name, device, index, *described):
                # onnxruntime copies at once what an operator on the CPU reads: before it is there.
                assert graphs and (device, index) == ("cuda", 0)
                binding.bind_input(name, "cpu", 0, *described)

            @staticmethod
            def bind_output(name, *place):
                bound.append((name, *place[:2]))
                binding.bind_output(name, "cpu", 0, *place[2:])

        return Binding

    def run_with_iobinding(self, binding, options=None):
        self.waited = options is None
        if self.graphs:  # not to be captured by onnxruntime as well
            assert options.get_run_config_entry("gpu_graph_id") == "-1"
        again(lambda: self.compute(binding.own))

    def compute(self, binding):
        self.runs += 1
        self.session.run_with_iobinding(binding)
