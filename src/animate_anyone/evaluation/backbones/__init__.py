"""The networks of the learned measures, one a file, with the names of tensors that published files have.

``shrink`` divides all widths: 1 is the published network, more is for tests.
"""
