"""What somebody who helps needs to know of an agent, in one archive, and no secret.

* ``masking``    the gate that every text passes: secrets of this host that are known, and what looks like one
* ``settings``   the configuration as it is, with the values that may be secret masked
* ``host_facts`` versions of what the agent stands on
* ``self_test``  the way to the server, step by step: name, TCP, TLS, certificate, clock
* ``log_lines``  what the agent has said lately, from the journal
* ``archive``    the archive with its manifest
"""
