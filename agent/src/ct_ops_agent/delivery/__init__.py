"""Delivery: results and samples are kept on disk until the server has stored them.

::

    put ──► lanes ──freeze──► frozen batch ──STORED──► retained ──26 h──► ledger
            results              exact bytes,            may be sent        what they held,
            gaps                 one number              again              no bytes
            samples

* `position`: the comparison of what the server says it has with what this outbox knows. Pure.
* `entries`: what lanes hold, and the codec that makes bytes of it; `summary`: what a batch holds, in
  numbers; `draft`: a batch in the making; `figures`: how full it all is.
* `outbox`: each step as one transaction (`transactions`), over the statements of `tables` and `batches`;
  `space`: what is given up, and said. `opening`: the file, and what is done about one that is damaged.
* `vault`: the outbox behind its thread, and what stands in for a disk that cannot be written.
* `courier`: the flow between those who put, the outbox and the stream.

No protobuf here: an item is an encoded fragment of a message whose encodings may be concatenated.
"""
