"""`audit archive`: archive old partitions as Parquet files, and query them."""
