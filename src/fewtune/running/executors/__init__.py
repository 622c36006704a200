"""Executors: run jobs and report each as an event; `base` has the protocol."""
