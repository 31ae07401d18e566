"""Several worker processes that are one server: what their parent knows, and what each of them inherits.

* ``restarts``    when a worker that died is started again, and when that is given up (pure)
* ``place``       what a worker inherits: sockets, the port, its line to the parent
* ``sockets``     the sockets that the parent opens for all of them
* ``line``        what workers tell their parent
* ``supervisor``  the parent

The parent serves nobody and imports neither gRPC nor a database driver. What one worker does for all (keys,
migrations) the first one does alone, before the others are started.
"""
