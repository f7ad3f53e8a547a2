"""What every stage uses: artifacts, work folders, launching, progress."""
