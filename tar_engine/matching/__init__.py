"""From two images to matches: the global search, windows, the refinement."""
