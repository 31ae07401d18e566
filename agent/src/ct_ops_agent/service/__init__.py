"""The agent as a service of its host.

* ``watchdog``  a process that merely exists is not alive: when the service manager is told that it is
"""
