"""Sources of video files."""
