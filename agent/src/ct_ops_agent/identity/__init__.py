"""Who this agent is, on disk: private key, leaf, trust bundle, agent id.

* `files`        whole-or-nothing writing, careful reading of the data directory
* `keystore`     the private key, in our form and in the form existing agents wrote
* `credentials`  what a server gave: agent id, agent token, leaf, trust bundle
* `certificates` what needs `cryptography`: making a key and a CSR, looking into a leaf. Only
  enrolment imports it, so that an enrolled daemon does not pay for it.
"""
