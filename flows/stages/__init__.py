"""The two passes over pixels, as functions that run on workers.

`match` turns tiles into matches, `group_matches` is how those travel, `fit` makes one field of a
group's matches and a verdict for each pair, which is its `estimate`; `slices` of a pass may lie
apart, and `shown` tells which of them shows a place: pass one. `compose` fills a shard: pass two.
Prefect is unknown here. They may import `plan` and all below it; everything above imports them.
"""
