"""Answering a file of rows: memory over its length, and rows a second beside Transformers' pipeline."""
