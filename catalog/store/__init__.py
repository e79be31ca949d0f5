"""The Zarr store: written shard by shard, published by an item, opened by analysts."""
