"""What agent and server share: the wire's messages and the enrolment token's string form.

* ``agent.v1`` is generated from ``proto/ct_ops_proto`` (``make proto``). Only ``transport`` of the
  agent and ``edge`` of the server import it.
* ``enrolment_token`` is written by hand: pure functions over strings, standard library only.
"""
