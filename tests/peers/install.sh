#!/usr/bin/env bash
# Puts the libraries that tests/peers/ and benchmarks/ compare with into the active Python, beside onnxvis.
# Their own requirements would pull a CUDA build of torch: so torch comes first, as the build that the
# package index offers, the peers without their requirements, and what they import at last.
set -euo pipefail

pip=(python -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.13.0
"${pip[@]}" --no-deps torchvision==0.28.0 zennit==0.5.1 captum==0.9.0 grad-cam==1.5.7 timm==1.0.31
"${pip[@]}" click huggingface-hub matplotlib numpy onnx onnxscript opencv-python-headless packaging pillow pyyaml \
    safetensors scikit-learn tqdm ttach

cd "$(dirname "$0")"
python - <<'PYTHON'
from importlib.metadata import version

from torchvision_shim import import_torchvision

import_torchvision()
import captum.attr, pytorch_grad_cam, timm, zennit.attribution  # noqa: E401, F401

names = ("torch", "torchvision", "zennit", "captum", "grad-cam", "timm")
print("ready:", ", ".join(f"{name} {version(name)}" for name in names))
PYTHON
