"""gRPC and the generated messages live here and nowhere else.

* `channel`        options and credentials of a connection
* `control_plane`  the flows' protocols, fulfilled over gRPC
* `convert`        model ⇄ protobuf, pure
* `final_status`   what the server said when it ended a stream
* `first_contact`  unverified connections that fetch a certificate (httpx and ssl, no gRPC)
* `roots`          in which order gRPC is given the CAs that are believed, pure
* `verified_look`  the server's certificate as gRPC verifies it but does not show it (ssl, no gRPC)
"""
