"""kd: from a parallel corpus to a small, fast translation model, by sequence-level knowledge distillation."""

__version__ = "0.1.0"
