"""The edge: everything that knows sockets, TLS, HTTP/2, gRPC and generated messages.

A connection's way in:

    listener ──► front_door ──► relay ──► upstream (UNIX socket in a private folder)
    caps before   TLS, then      bytes     lobby   gRPC, callers without a valid identity
    TLS           who it is      only      agents  gRPC, callers with one
                                           http    http/1.1: the public app

* ``limits``         every limit of the edge, with its unit
* ``tls``            the server's TLS contexts
* ``listener``       accepts connections, counts and refuses them before TLS
* ``front_door``     terminates TLS, decides who is calling, chooses the upstream
* ``relay``          forwards bytes both ways with back-pressure
* ``dialling``       connects to an upstream under a name of its own
* ``callers``        who is on which connection; ends them when their agent is revoked
* ``agent_service``  ``agent.v1.IngestService`` for lobby and agents
* ``convert``        messages ⇄ values; makes every value storable
* ``refusals``       reasons → gRPC status, sentence and trailing metadata
* ``grpc_servers``   the two gRPC servers behind the door
* ``public_app``     http/1.1 on the agent port   ``local_app``  8080   ``admin_app``  the admin socket
* ``downloads``      what hosts download            ``install_route``  the script of the one-line install
* ``request_ids``    a number for every RPC and HTTP request, in the log and in its refusal
* ``http_requests``  what every HTTP request shares
* ``http_server``    runs an ASGI app inside our loop
* ``metrics``        Prometheus counters and histograms   ``process_metrics``  CPU, memory, the event loop's lag
"""
