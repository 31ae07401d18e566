"""The load tool: virtual agents over the real wire, each with its own key, leaf and TLS connection.

* ``figures``        what is counted, and percentiles of every heartbeat: pure
* ``virtual_agent``  one agent: Register, then frames on one stream
* ``run``            flow: enrol all, beat all, for a bounded time
* ``cli``            ``ct-ops-loadtest``

It never imports the server: what it measures is what any client of the wire gets.
"""
