"""What is to be done and what was done, durably: one SQLite file, written by one daemon.

`jobs` decides and touches nothing; only `store` and `schema` know SQL.
"""
