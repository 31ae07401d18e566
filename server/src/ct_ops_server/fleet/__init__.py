"""The fleet: which agents there are, how they are doing, and which of them are connected.

* ``model``     values: an agent, its vitals, its status
* ``ports``     what the fleet needs from a store and from the front door
* ``sessions``  flow: one heartbeat stream from its first frame to its end
* ``presence``  flow: this worker's lease, and the sweep that keeps "online" true
* ``agents``    flow: what operators do to agents (find, approve, reject, revoke)

No SQL and no gRPC here: the store and the edge depend on this package, never the reverse.
"""
