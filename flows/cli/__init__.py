"""The `tar-pipeline` command: arguments in, one clear line per mistake out.

`main` finds the command and explains errors, `commands/` has a room for each command, `options`
makes options of a request's fields, `terminal` is what all of them share. The other modules do the
work of `demo`, `pair` and `train`. This is the top floor: nothing but tests imports it.
"""
