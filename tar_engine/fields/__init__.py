"""From matches to one displacement field, or a refusal."""
