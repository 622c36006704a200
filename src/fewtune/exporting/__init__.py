"""Exports saved models for Transformers, PEFT and ONNX Runtime; using one needs no fewtune."""
