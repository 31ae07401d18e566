"""Enrolment: how an unknown host becomes a known agent, and how a known one comes back.

* ``model``        values: token terms, application, verdict, registration, refusal
* ``ports``        what a Register needs from a store   ``token_ports``  what operators need from it
* ``admission``    the decision table: pure
* ``service``      flow: one Register from application to registration
* ``challenges``   nonces for the proof of a key
* ``token_terms``  what may be said about an enrolment token: pure
* ``tokens``       flow: what operators do with enrolment tokens
* ``refusal_log``  keeps who was refused, off the path of the refusal
* ``remedies``     what an operator can do about each refusal

No SQL and no gRPC here: the store and the edge depend on this package, never the reverse.
"""
