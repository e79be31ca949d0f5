"""The two passes: match tiles, fit a field, compose shards."""
