"""From Parquet shards to shuffled batches on the devices."""
