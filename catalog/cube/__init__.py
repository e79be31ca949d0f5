"""All published days of a region as one cube along time, which opens without this package.

`update` lets the cube follow what is published, `arrays` is what lies in it, `repository` where,
`open` is for readers.
"""
