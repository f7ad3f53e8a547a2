"""From a source to Parquet shards: listing, splits, workers, overview."""
