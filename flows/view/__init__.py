"""A map of what a store has published, served to a browser on this machine.

`days` is what the store lists and opens, `chunks` the pixels last read, `layers` what a day shows
and in which colours, `delivered` SAR moved back to where it was delivered, `tiles` the pictures of
the map, `pixel` one place through all days, `server` the addresses, `page/` what the browser loads.
They only read, and import nothing of a run but how its threads share memory; only `cli` imports
them.
"""
