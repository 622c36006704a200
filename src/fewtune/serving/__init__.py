"""Serves a saved model over HTTP, with many requests scored in one call of the model.

What a request may say is `reading`, how rows come together `batching`, what all of it answers `app`, and the process
that listens `server`. Imported by the command that serves alone: it needs FastAPI.
"""
