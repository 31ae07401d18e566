"""The agent as a service of its host: alive, installed, taken off again.

* ``watchdog``    a process that merely exists is not alive: when the service manager is told that it is
* ``layout``      where everything is on a host, and inside the root of an image
* ``unit``        the unit that comes with the agent, and the drop-ins that a host or a collector needs
* ``merging``     what an installation writes into a configuration that an operator has written
* ``build``       the unpacked folder: what it is, and what it needs of the host
* ``survey``      what is on the host now: the only part that looks
* ``plan``        what is to be done about it: a pure decision, printed by ``--dry-run`` as it is done
* ``removal``     the same for ``uninstall``
* ``steps``       each single thing that can be done, as a value that can be said and done
* ``machine``     the host as the steps change it
* ``outcome``     what came of it: the first acknowledged heartbeat, or why there is none
* ``belongings``  which files of a data directory are the agent's
"""
