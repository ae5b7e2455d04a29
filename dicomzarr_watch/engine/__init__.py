"""Where jobs are done. The seam is narrow: submit, results, capacity, close.

An engine touches neither ledger nor log; it returns outcomes.
"""
