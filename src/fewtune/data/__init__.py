"""Fetches and reads files: packages, archives, the hub, files of rows. Knows no task."""
