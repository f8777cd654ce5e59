"""``python -m onnxvis`` is the command line."""

from onnxvis.cli import main

if __name__ == "__main__":
    main(prog_name="onnxvis")
