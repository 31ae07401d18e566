"""Authority: who signs, what is signed, and whom a presented certificate makes its bearer.

* ``errors``              what stops a start: a file that is damaged, unsafe or sealed with another secret
* ``files``               private files, written whole or not at all
* ``sealing``             private keys at rest, encrypted under the installation's secret
* ``root``                a self-signed root: certificate and sealed key in two files
* ``ca``                  the agent CA: issues leaves
* ``spiffe``              the name in a leaf: ``spiffe://ct-ops/org/<installation>/agent/<agent id>``
* ``public_key``, ``csr`` what an agent sends, made canonical or refused with a reason
* ``leaf_identity``       a presented leaf: agent, key proven, or anonymous (pure)
* ``host_names``          by which names this host may be called
* ``server_certificate``  the server's own TLS certificate, and the CA that agents pin
* ``jwks``                the RS256 key that signs agent tokens, and its public face
* ``agent_token``         agent tokens: issue and verify

No gRPC, no SQL, no event loop: everything here is a pure function or a short visit to a file.
"""
