"""What a region remembers, on its way into a day and out of it.

`recall` opens it and says which tiles it spares, `radar` holds a SAR pass to it, `weigh` weighs it
against a day's matches. Of a published day `remember` makes the next version, `learnt` its field.
"""
