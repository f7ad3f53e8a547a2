"""Files and folders, archives and remote addresses."""
