"""Enrolment: how an unknown host becomes a known agent, and how a known one comes back.

* ``model``      values: token terms, application, verdict, registration
* ``ports``      what enrolment needs from a store
* ``admission``  the decision table: pure
* ``tokens``     flow: creating enrolment tokens
* ``service``    flow: one Register from application to registration

No SQL and no gRPC here: the store and the edge depend on this package, never the reverse.
"""
