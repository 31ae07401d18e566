"""Checks: probes that a server defines and this agent runs on their interval.

`runner` keeps them going, `plan` decides what starts, stops and when it is due, `kept` remembers them over
a restart, `kinds` is the table of types. Each type is a module with a function of its configuration and an
`attempt`, which blocks in a thread of its own; the table of types and their keys is
``ct_ops_proto.checks``, shared with the server.
"""
