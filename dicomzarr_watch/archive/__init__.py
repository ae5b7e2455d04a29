"""One series to one verified Zarr store, and back.

Knows nothing of inboxes, ledgers or queues. `convert` tells the story; `verify`, `restore` and
`reader` share no code with `writer`.
"""
