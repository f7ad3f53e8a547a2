"""Sources, Parquet shards and the shuffled loader."""
