"""Delivery: results and samples are kept on disk until the server has stored them.

::

    put ──► lanes ──freeze──► frozen batch ──STORED──► retained ──26 h──► ledger
            results              exact bytes,            may be sent        what they held,
            gaps                 one number              again              no bytes
            samples

* `position`: the comparison of what the server says it has with what this outbox knows. Pure.
* `entries`: what lanes hold, and the codec that makes bytes of it; `summary`: what a batch holds, in
  numbers.
* `tables`: the SQL; `outbox`: each step as one transaction; `opening`: the file, and what is done
  about one that is damaged.
* `courier`: the flow between those who put, the disk and the stream.

No protobuf here: an item is an encoded fragment of a message whose encodings may be concatenated.
"""
