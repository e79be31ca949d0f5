"""The network: MSFL, TAFE, CFDM, their text and their checkpoints."""
