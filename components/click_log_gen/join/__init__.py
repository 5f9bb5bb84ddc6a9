"""The join of clicks to impressions, partitioned by key."""
