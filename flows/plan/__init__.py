"""What a person asks for, and what it comes to before any work.

`request` is the edge where people type, `days` finds each day's scenes and pairs, `scene_checks`
looks into their files, `groups` says which pairs share a field, `generation` what a day's mosaic is
named after, and `plan` puts it together and compares it with the store. Nothing here is written.
It may import `cluster`; everything above imports it.
"""
