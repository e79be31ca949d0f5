"""From matches to one displacement field, or a refusal.

`matches` are what everything here starts from; `consensus` finds one affine among them, `robust`
says what an outlier weighs; `field` and `smoother` are the spline; `rungs` are shift, affine and
smooth field, each tried on what it has not seen, the last in `parts` where it is large; `fit`
chooses among them and judges. Imports config, coordinates and errors alone; matching,
register and training may import it, and so may flows.
"""
