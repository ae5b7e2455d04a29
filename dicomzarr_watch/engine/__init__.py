"""Where jobs are done. The seam is narrow: submit, results, capacity, tend, close.

An engine touches neither ledger nor log; it returns outcomes.
"""
