"""The colours of what became of a pixel, wherever a page shows it."""

from __future__ import annotations

COLOURS = {  # told apart without seeing red from green
    "registered": "#2c7fb8",
    "registered_radar_to_radar": "#41b6c4",
    "registered_from_memory": "#253494",
    "abstained": "#d95f0e",
    "no_sar": "#fed98e",
    "layover_or_shadow": "#8c6bb1",
    "cloud": "#cbc9e2",
    "no_optical": "#ececec",
}
ANY_COLOUR = "#7b8794"  # of what else may become of a pixel
