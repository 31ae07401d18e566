"""The store: everything the server remembers, on SQLite (default) or PostgreSQL, in one code path.

* ``opening``       an open store: migrated, its writer running, its parts put together
* ``database_url``  addresses of databases: pure
* ``errors``        what keeps it from being opened
* ``database``      connections: one way to write, one way to read
* ``faults``        what a driver's error means: try later, try again, or never
* ``schema``        the tables, and the database's clock
* ``migrations``    from any older schema to this one
* ``rowset``        many rows as one bound value
* ``grouping``      which writes share a commit, and how a failing group is taken apart: pure
* ``writer``        the group-commit writer: every write of the server goes through it
* ``agents`` ``streams`` ``presence`` ``endings``   what the fleet asks of a store
* ``enrolment`` (with ``lookups``, ``admissions``) ``tokens`` ``refusals``   what enrolment asks of it
* ``installation``  what the server remembers of itself

Nothing outside this package knows SQL; nothing inside knows gRPC.
"""
