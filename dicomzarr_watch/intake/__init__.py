"""From folders that people fill to series that are complete.

The listing is the truth; events only say when to look. Knows nothing of Zarr or of jobs.
"""
