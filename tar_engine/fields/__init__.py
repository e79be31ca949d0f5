"""From matches to one displacement field, or a refusal.

`matches` are what everything here starts from; `consensus` finds one affine among them, `robust`
says what an outlier weighs; `field` and `smoother` are the spline; `fit` climbs from shift to
affine to smooth field and judges it. Imports config, coordinates and errors alone; matching,
register and training may import it, and so may flows.
"""
