"""A saved model behind HTTP: requests in, answers out, many of them scored in one call of the model.

What a request may say is `reading`, how rows come together `batching`, what all of it answers `app`, and the process
that listens `server`. Imported by the command that serves alone: it needs FastAPI.
"""
