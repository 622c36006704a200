"""Saved models as other tools load them: Transformers, PEFT, ONNX Runtime; no fewtune is needed to use one."""
