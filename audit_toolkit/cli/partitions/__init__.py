"""`audit partitions`: manage the trail's partitions without blocking writes."""
