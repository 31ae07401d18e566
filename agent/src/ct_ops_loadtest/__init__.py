"""The load tool: virtual agents over the real wire, each with its own key, leaf and TLS connection.

* ``plan``, ``scenario``     what a run does, from options, a file and a seed: pure
* ``figures``, ``histogram`` what is counted, every heartbeat of it: pure
* ``http2``, ``h2_format``    the protocol, bytes in and bytes out: pure
* ``connection``, ``tls``    a socket with TLS and the RPCs on it
* ``virtual_agent``          one agent: Register, a stream, frames; ``simulated_work`` what it does for the server
* ``life``, ``shared``       what becomes of it in a run
* ``driver``, ``worker``     the agents of one process, and that process
* ``crew``                   all processes of a run
* ``preflight``, ``cleanup`` before and after
* ``cli``, ``option_types``   ``ct-ops-loadtest``

It never imports the server: what it measures is what any client of the wire gets.
"""
