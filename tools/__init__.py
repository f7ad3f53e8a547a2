"""Programs that the Makefile runs on the project itself."""
