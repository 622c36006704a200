"""Where files come from and how they are read: packages, archives, the hub, files of rows. Knows no task."""
