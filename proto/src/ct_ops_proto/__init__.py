"""What agent and server share: the wire's messages, and what has to be the same on both sides.

* ``agent.v1`` is generated from ``proto/ct_ops_proto`` (``make proto``). Only ``transport`` of the
  agent and ``edge`` of the server import it.
* ``enrolment_token``, ``key_proof``, ``machine_identity`` and ``log_masking`` are written by hand: pure
  functions over strings and bytes, standard library only.
"""
