"""Queries and tasks: what a server asks once.

`queries` answers questions, `desk` takes tasks, remembers in `attempts` what became of each, and tells
`progress`; `inventory` is the one task that this agent does. What reads the host is given from outside.
"""
