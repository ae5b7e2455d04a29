"""What is to be done and what was done, durably: one SQLite file, written by one daemon.

`jobs` decides and touches nothing; tables ask and write down, in a `database`; `store` opens it.
"""
