"""The `tar-pipeline` command: arguments in, one clear line per mistake out."""
