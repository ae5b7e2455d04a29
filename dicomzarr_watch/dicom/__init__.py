"""What DICOM means: bytes to spans, elements, frames, stacks and geometry.

Knows nothing of Zarr, folders or queues. `elements`, `part10`, `tags` and `values` need the
standard library only, so that a process that merely peeks at files stays small.
"""
