"""What the page shows, read from reports and artifacts and checked."""
