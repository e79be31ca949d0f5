"""What a Sentinel-1 product says of itself: control points, annotation, calibration."""
