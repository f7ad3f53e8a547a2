"""From a video file to clips: which frames, by their times; and how they are decoded."""
